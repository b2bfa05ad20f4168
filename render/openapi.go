package render

import (
	"sync"

	"sigs.k8s.io/kustomize/kyaml/openapi"
)

// kyaml keeps one OpenAPI schema for the whole process. krusty.Run leaves it alone unless a
// kustomization has an openapi: field, so parsing the built-in one once serves every render;
// parsing it before the first keeps renders that run at once from writing it while they read.
// A stack with openapi: replaces it, and so must be alone, and put it back.
var (
	schemaInUse sync.RWMutex //nolint:gochecknoglobals // guards a global of kyaml
	schemaOnce  sync.Once    //nolint:gochecknoglobals // as above
)

// withSchema runs fn while kyaml's schema is the built-in one, or is fn's own to change.
func withSchema(exclusive bool, fn func() error) error {
	schemaOnce.Do(func() { openapi.Schema() })
	if !exclusive {
		schemaInUse.RLock()
		defer schemaInUse.RUnlock()
		return fn()
	}
	schemaInUse.Lock()
	defer schemaInUse.Unlock()
	defer func() {
		openapi.ResetOpenAPI()
		openapi.Schema()
	}()
	return fn()
}
