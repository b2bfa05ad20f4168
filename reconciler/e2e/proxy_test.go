package e2e

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// proxy stands between a daemon and the API server. It counts requests, and can
// interfere with them; those about Leases it lets pass unseen.
type proxy struct {
	Kubeconfig string
	server     *http.Server

	mu        sync.Mutex
	said      []byte                                                             // what was written to Stacks, Sources and Events
	requests  []string                                                           // "PATCH /api/v1/namespaces/x/configmaps/y?dryRun=All"
	interfere func(w http.ResponseWriter, r *http.Request, forward http.Handler) // nil: forward
}

func startProxy(kubeconfig, own string) (*proxy, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{Kubeconfig: own}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // watches
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	p.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, forward) }),
		ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = p.server.Serve(listener) }() // ends with close
	return p, clientcmd.WriteToFile(api.Config{
		CurrentContext: "proxy",
		Clusters:       map[string]*api.Cluster{"proxy": {Server: "http://" + listener.Addr().String()}},
		Contexts:       map[string]*api.Context{"proxy": {Cluster: "proxy"}},
	}, own)
}

func (p *proxy) close() { _ = p.server.Close() }

func (p *proxy) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	if strings.Contains(r.URL.Path, "/plumbline.dev/") || strings.Contains(r.URL.Path, "/events") {
		body, _ := io.ReadAll(r.Body) // what is missing, the server misses too
		p.mu.Lock()
		p.said = append(p.said, body...)
		p.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if interfere := p.note(r); interfere != nil {
		interfere(w, r, forward)
		return
	}
	forward.ServeHTTP(w, r)
}

func (p *proxy) note(r *http.Request) func(http.ResponseWriter, *http.Request, http.Handler) {
	if strings.Contains(r.URL.Path, "/leases") {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r.Method+" "+r.URL.RequestURI())
	return p.interfere
}

// intervene sets what happens to each request from now on.
func (p *proxy) intervene(f func(w http.ResponseWriter, r *http.Request, forward http.Handler)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.interfere = f
}

// take returns the requests since it was last asked.
func (p *proxy) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.requests
	p.requests = nil
	return out
}

// seen returns the requests since take.
func (p *proxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.requests...)
}

func mutates(r *http.Request) bool {
	return r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == ""
}
