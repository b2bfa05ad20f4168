package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var apiWords = map[string]word{
	"listen": {"listen: daemons do, from their next start on; $API is where", 0, false, func(ctx context.Context, s script, _ []string) error {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s.listen = listener.Addr().String()
		s.ts.Setenv("API", "http://"+s.listen)
		return listener.Close()
	}},
	"api": {"api STATUS PATH [jsonpath pattern]...: at once", 2, false, func(ctx context.Context, s script, args []string) error {
		return s.api(ctx, args[0], args[1], args[2:])
	}},
	"expect-api": {"expect-api PATH [jsonpath pattern]...", 1, false, func(ctx context.Context, s script, args []string) error {
		return eventually(ctx, func(ctx context.Context) error { return s.api(ctx, "200", args[0], args[1:]) })
	}},
}

// api asks the daemon, and complains unless it answers with this status, and these
// fields: path, pattern, path, pattern…
func (s *scenario) api(ctx context.Context, status, path string, want []string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.listen+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if strconv.Itoa(response.StatusCode) != status {
		return fmt.Errorf("%s: %s: %s", path, response.Status, body)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(body, &u.Object); err != nil {
		return fmt.Errorf("%s: %w: %s", path, err, body)
	}
	if err := holds(u, want); err != nil {
		return fmt.Errorf("%s: %w: %s", path, err, body)
	}
	return nil
}
