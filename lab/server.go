package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Server is a program that answers over HTTP, as a child process that dies with us.
type Server struct{ process *process }

// StartServer starts a program, and returns when it answers at that URL. What it
// says goes to log, which has to be safe for concurrent use.
func StartServer(ctx context.Context, program string, args []string, ready string, log io.Writer) (*Server, error) {
	p, out, err := start(ctx, program, args, nil, orDiscard(log))
	if err != nil {
		return nil, err
	}
	go func() { _, _ = io.Copy(orDiscard(log), out) }() // ends with the child
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, ready, http.NoBody)
		if err != nil {
			p.kill()
			return nil, err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return &Server{p}, nil
			}
		}
		select {
		case <-ctx.Done():
			p.kill()
			return nil, context.Cause(ctx)
		case <-p.done:
			return nil, fmt.Errorf("%s ended while it started: %v", program, p.err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop ends the server, and waits for it.
func (s *Server) Stop() error { return s.process.stop(30 * time.Second) }

// Kill ends it, where nothing that it holds is of use.
func (s *Server) Kill() { s.process.kill() }
