package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/secrets"
)

// unsealing makes what opens sealed things from the configuration. Nothing is read
// or asked yet. client is for keys in the cluster; nil: there is none.
func unsealing(config reconciler.Config, client dynamic.Interface, key secrets.HashKey) (reconciler.Secrets, error) {
	out := reconciler.Secrets{Key: key}
	if c := config.Secrets.OpenBao; c != nil {
		bao, err := secrets.NewBao(c.Bao(key))
		if err != nil {
			return out, fmt.Errorf("secrets.openbao: %w", err)
		}
		out.Bao, out.Allow = bao, c.Allow
	}
	keys := map[string]*secrets.SOPS{}
	for _, source := range config.Sources {
		own := source.SOPS
		if own.IsZero() {
			own = config.Secrets.SOPS
		}
		opener := &secrets.SOPS{Age: ageKeys(own, client), PGP: pgpKeys(own)}
		if out.Bao != nil {
			opener.Transit = out.Bao.Transit(out.Allow[source.Name])
		}
		keys[source.Name] = opener
	}
	out.SOPS = func(source string) *secrets.SOPS { return keys[source] }
	return out, nil
}

func ageKeys(c reconciler.SOPSConfig, client dynamic.Interface) (out []secrets.KeySource) {
	if c.AgeKeyFile != "" {
		out = append(out, keyFile("age key file", c.AgeKeyFile))
	}
	if c.AgeKeyEnv != "" {
		out = append(out, keyEnv(c.AgeKeyEnv))
	}
	if ref := c.AgeKeySecret; ref != nil {
		source := secrets.KeySource{Name: fmt.Sprintf("Secret %s/%s", ref.Namespace, ref.Name),
			Read: func(ctx context.Context) ([]byte, error) { return clusterKey(ctx, client, *ref) }}
		out = append(out, secrets.Remembered(source, time.Minute))
	}
	return out
}

func pgpKeys(c reconciler.SOPSConfig) []secrets.KeySource {
	if c.PGPKeyFile == "" {
		return nil
	}
	return []secrets.KeySource{keyFile("PGP key file", c.PGPKeyFile)}
}

func keyFile(what, file string) secrets.KeySource {
	return secrets.KeySource{Name: what + " " + file, Read: func(context.Context) ([]byte, error) { return os.ReadFile(file) }}
}

func keyEnv(name string) secrets.KeySource {
	return secrets.KeySource{Name: "environment variable " + name, Read: func(context.Context) ([]byte, error) {
		if value := os.Getenv(name); value != "" {
			return []byte(value), nil
		}
		return nil, errors.New("it is not set")
	}}
}

// clusterKey reads age identities from a Secret in the cluster.
func clusterKey(ctx context.Context, client dynamic.Interface, ref reconciler.SecretRef) ([]byte, error) {
	if client == nil {
		return nil, errors.New("there is no cluster to read it from")
	}
	u, err := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return keysOf(u, ref.Key)
}

// keysOf takes the named key of a Secret, or all whose names say that they hold
// age identities.
func keysOf(u *unstructured.Unstructured, key string) ([]byte, error) {
	data, _, err := unstructured.NestedStringMap(u.Object, "data")
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if name == key || (key == "" && slices.Contains([]string{".agekey", ".txt"}, path.Ext(name))) {
			plain, err := base64.StdEncoding.DecodeString(data[name])
			if err != nil {
				return nil, fmt.Errorf("its key %s is not base64", name)
			}
			out = append(append(out, plain...), '\n')
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it has no key %s", map[bool]string{true: "that ends in .agekey or .txt", false: key}[key == ""])
	}
	return out, nil
}

// customary is where sops and bao themselves look for keys and tokens: for
// commands that people run without a configuration.
func customary(source string) (config reconciler.SecretsConfig) {
	own := &config.SOPS
	if os.Getenv("SOPS_AGE_KEY") != "" {
		own.AgeKeyEnv = "SOPS_AGE_KEY"
	}
	own.AgeKeyFile = os.Getenv("SOPS_AGE_KEY_FILE") // one that is named and missing is an error
	if dir, err := os.UserConfigDir(); err == nil && own.AgeKeyFile == "" {
		file := filepath.Join(dir, "sops", "age", "keys.txt")
		if _, err := os.Stat(file); err == nil {
			own.AgeKeyFile = file
		}
	}
	if address := os.Getenv("BAO_ADDR"); address != "" {
		config.OpenBao = &reconciler.OpenBaoConfig{Address: address, Namespace: os.Getenv("BAO_NAMESPACE"), CAFile: os.Getenv("BAO_CACERT"),
			Auth: reconciler.OpenBaoAuthConfig{TokenEnv: "BAO_TOKEN"}, Allow: map[string][]string{source: {"+/*", "+/decrypt/+"}}}
	}
	return config
}
