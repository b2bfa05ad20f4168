package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registry asks registries.
type registry struct {
	platforms []v1.Platform
	insecure  []string
	config    string // Docker's, with credentials
	transport http.RoundTripper
}

// configBytes bounds an image's configuration.
const configBytes = 8 << 20

// located is where an image is.
type located struct {
	repository name.Repository
	digest     string
	images     []v1.Hash // for the platforms, without doubles
}

// manifest is what is kept of one: the images that it leads to, by platform.
type manifest struct {
	Images map[string]v1.Hash
}

func newRegistry(o Options) (*registry, error) {
	r := &registry{insecure: o.Insecure, config: o.DockerConfig, transport: newTransport(o.Insecure)}
	for _, p := range o.Platforms {
		platform, err := v1.ParsePlatform(p)
		if err != nil || platform.OS == "" || platform.Architecture == "" {
			return nil, fmt.Errorf("platform %q: want OS/ARCH, as linux/arm64", p)
		}
		r.platforms = append(r.platforms, *platform)
	}
	return r, nil
}

func (r *registry) parse(reference string) (name.Reference, error) {
	ref, err := name.ParseReference(reference)
	if err == nil && slices.Contains(r.insecure, ref.Context().RegistryStr()) {
		return name.ParseReference(reference, name.Insecure)
	}
	return ref, err
}

func (r *registry) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(r.transport), remote.WithAuthFromKeychain(keychain{r.config}), remote.WithUserAgent("plumbline")}
}

// find tells where the image is for each of the platforms.
func (r *registry) find(ctx context.Context, ref name.Reference, kept store) (located, error) {
	at := located{repository: ref.Context()}
	digest, err := r.digest(ctx, ref)
	if err != nil {
		return at, of(ref, err)
	}
	at.digest = digest.String()
	var m manifest
	if !kept.load("manifests", digest.Hex, &m) {
		if m, err = r.manifest(ctx, ref.Context().Digest(at.digest)); err != nil {
			return at, of(ref, err)
		}
		kept.save("manifests", digest.Hex, m)
	}
	if at.images, err = m.choose(r.platforms); err != nil {
		return at, err
	}
	for _, image := range at.images {
		if image == digest {
			continue
		}
		if _, err := r.digest(ctx, ref.Context().Digest(image.String())); err != nil {
			return at, of(ref, err)
		}
	}
	return at, nil
}

// digest is what a reference leads to. It is the one request for an image that is known,
// and none that counts as a pull.
func (r *registry) digest(ctx context.Context, ref name.Reference) (v1.Hash, error) {
	head, err := remote.Head(ref, r.options(ctx)...)
	if err == nil {
		return head.Digest, nil
	}
	var status *transport.Error
	if errors.As(err, &status) && (status.StatusCode == http.StatusNotFound || status.StatusCode == http.StatusTooManyRequests) {
		return v1.Hash{}, err
	}
	if ctx.Err() != nil || !errors.As(err, &status) {
		return v1.Hash{}, err
	}
	got, err := remote.Get(ref, r.options(ctx)...) // a registry without HEAD; and GET says why not
	if err != nil {
		return v1.Hash{}, err
	}
	return got.Digest, nil
}

func (r *registry) manifest(ctx context.Context, ref name.Reference) (manifest, error) {
	got, err := remote.Get(ref, r.options(ctx)...)
	if err != nil {
		return manifest{}, err
	}
	m := manifest{Images: map[string]v1.Hash{}}
	if err := consistent(got); err != nil { // what is kept of a digest must not depend on who served it
		return m, err
	}
	switch {
	case got.MediaType.IsIndex():
		index, err := got.ImageIndex()
		if err != nil {
			return m, err
		}
		list, err := index.IndexManifest()
		if err != nil {
			return m, err
		}
		for _, d := range list.Manifests {
			if d.Platform == nil || d.Platform.OS == "unknown" { // attestations have no platform
				continue
			}
			if _, there := m.Images[d.Platform.String()]; !there { // of two, a node takes the first
				m.Images[d.Platform.String()] = d.Digest
			}
		}
	case got.MediaType == types.DockerManifestSchema1, got.MediaType == types.DockerManifestSchema1Signed:
		return m, errors.New("has a manifest of the first schema, which isn't read any more")
	default:
		image, err := got.Image()
		if err != nil {
			return m, err
		}
		own, err := image.Manifest()
		if err != nil {
			return m, err
		}
		if own.Config.Size < 0 || own.Config.Size > configBytes { // it would be read into memory, as large as it says
			return m, fmt.Errorf("has a configuration of %d bytes: at most %d", own.Config.Size, configBytes)
		}
		config, err := image.ConfigFile()
		if err != nil {
			return m, err
		}
		m.Images[config.Platform().String()] = got.Digest
	}
	if len(m.Images) == 0 {
		return m, errors.New("is an index without images")
	}
	return m, nil
}

// consistent is an error where the type that a registry claims is not that of what it serves.
func consistent(got *remote.Descriptor) error {
	var body struct{ Config, Layers, Manifests json.RawMessage }
	if err := json.Unmarshal(got.Manifest, &body); err != nil {
		return fmt.Errorf("has a manifest that is no JSON: %w", err)
	}
	if index := body.Manifests != nil; index != got.MediaType.IsIndex() || index == (body.Config != nil || body.Layers != nil) {
		return errors.New("has a manifest that is not of the type that its registry says")
	}
	return nil
}

// choose finds the images for some platforms.
func (m manifest) choose(platforms []v1.Platform) ([]v1.Hash, error) {
	var chosen []v1.Hash
	for _, want := range platforms {
		at, ok := m.of(want)
		if !ok {
			have := make([]string, 0, len(m.Images))
			for p := range m.Images {
				have = append(have, p)
			}
			slices.Sort(have)
			return nil, &missingError{fmt.Sprintf("is not there for %s, but for %s", want.String(), cut(strings.Join(have, ", ")))}
		}
		if !slices.Contains(chosen, at) {
			chosen = append(chosen, at)
		}
	}
	return chosen, nil
}

// of finds the image for a platform: the very one, or any of its variants.
func (m manifest) of(want v1.Platform) (v1.Hash, bool) {
	var names []string
	for have := range m.Images {
		names = append(names, have)
	}
	slices.Sort(names)
	for _, have := range names {
		if p, err := v1.ParsePlatform(have); err == nil && p.OS == want.OS && p.Architecture == want.Architecture && (p.Variant == want.Variant || want.Variant == "" || p.Variant == "") {
			return m.Images[have], true
		}
	}
	return v1.Hash{}, false
}

func (r *registry) image(ctx context.Context, at located, digest v1.Hash) (v1.Image, error) {
	ref := at.repository.Digest(digest.String())
	got, err := remote.Get(ref, r.options(ctx)...)
	if err != nil {
		return nil, of(ref, err)
	}
	if err := consistent(got); err != nil {
		return nil, err
	}
	if !got.MediaType.IsImage() { // an index in an index might lead to itself
		return nil, fmt.Errorf("leads to %s, which is no image", cut(string(got.MediaType)))
	}
	image, err := got.Image()
	return image, of(ref, err)
}

// missingError says that something is not there.
type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

// of says which registry it was, and what an error of it means.
func of(ref name.Reference, err error) error {
	if err == nil {
		return nil
	}
	host := ref.Context().RegistryStr()
	var status *transport.Error
	if errors.As(err, &status) {
		path := ""
		if status.Request != nil {
			path = status.Request.URL.Path
		}
		switch status.StatusCode {
		case http.StatusNotFound:
			if strings.Contains(path, "/manifests/") || strings.Contains(path, "/blobs/") {
				return &missingError{host + " doesn't have it"}
			}
			return fmt.Errorf("%s is no registry now: it answers with status 404", host)
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("%s denies access: it isn't there, or takes credentials (scan.images.dockerConfig)", host)
		case http.StatusTooManyRequests:
			return fmt.Errorf("%s answers no more for now: too many requests", host)
		}
		return fmt.Errorf("%s answers with status %d", host, status.StatusCode)
	}
	return fmt.Errorf("ask %s: %w", host, saying(err))
}
