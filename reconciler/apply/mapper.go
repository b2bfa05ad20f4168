package apply

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"
)

// Resource is where a kind lives in the API.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
}

// Mapper finds the Resource of a kind. It asks the API server once, again when
// told that kinds came or went, and again (at most every few seconds) when a
// kind is unknown. It is safe for concurrent use.
type Mapper struct {
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	mu      sync.Mutex
	refresh time.Time
}

// refreshEvery bounds how often unknown kinds may ask the server again.
const refreshEvery = 3 * time.Second

// NewMapper returns a Mapper over the server's discovery documents.
func NewMapper(client discovery.DiscoveryInterface) *Mapper {
	return &Mapper{mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))}
}

// Invalidate forgets what the server said: a CRD came or went.
func (m *Mapper) Invalidate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refresh = time.Now()
	m.mapper.Reset()
}

// Resource finds the kind in this version, or in any version when it is empty.
// An unknown kind is an error for which meta.IsNoMatchError is true.
func (m *Mapper) Resource(gk schema.GroupKind, version string) (Resource, error) {
	var versions []string
	if version != "" {
		versions = []string{version}
	}
	mapping, err := m.mapper.RESTMapping(gk, versions...)
	if meta.IsNoMatchError(err) && m.mayRefresh() {
		m.mapper.Reset()
		mapping, err = m.mapper.RESTMapping(gk, versions...)
	}
	if err != nil {
		return Resource{}, fmt.Errorf("find the resource of %s: %w", gk, err)
	}
	return Resource{mapping.Resource, gk.Kind, mapping.Scope.Name() == meta.RESTScopeNameNamespace}, nil
}

// Namespaced tells the scope of a kind, where the server knows it.
func (m *Mapper) Namespaced(gk schema.GroupKind) (namespaced, known bool) {
	r, err := m.Resource(gk, "")
	return r.Namespaced, err == nil
}

func (m *Mapper) mayRefresh() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.refresh) < refreshEvery {
		return false
	}
	m.refresh = time.Now()
	return true
}

// isUnknownKind is true when the server doesn't serve the kind (any more). The
// deferred mapper wraps some of these in errors that only their text tells.
func isUnknownKind(err error) bool {
	var group *discovery.ErrGroupDiscoveryFailed
	return !errors.As(err, &group) && (meta.IsNoMatchError(err) || (err != nil && strings.Contains(err.Error(), "no matches for kind")))
}
