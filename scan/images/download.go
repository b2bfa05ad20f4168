package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Bounds of a database that comes from a registry.
const (
	newAfter      = time.Hour // from when on it is asked whether there is a newer one
	downloadFor   = 10 * time.Minute
	databaseBytes = 8 << 30
)

// download has a database from a registry, in a directory that is named by its digest.
type download struct {
	ref      name.Reference
	registry *registry
	dir      string

	name atomic.Value // of the directory that is used: a string

	mu    sync.Mutex // held while it downloads: who needs it waits
	again time.Time  // when it is asked whether there is a newer one
	err   error      // why there is none
}

func newDownload(reference string, kept store, r *registry) (*download, error) {
	ref, err := r.parse(reference)
	if err != nil {
		return nil, fmt.Errorf("oci://%s: %w", reference, err)
	}
	if kept.dir == "" {
		return nil, errors.New("a database from a registry needs a directory to be in")
	}
	return &download{ref: ref, registry: r, dir: filepath.Join(kept.dir, "databases")}, nil
}

// at is where the database is now.
func (d *download) at() string { return filepath.Join(d.dir, d.current()) }

func (d *download) current() string {
	name, _ := d.name.Load().(string)
	return name
}

// ready has a database there. One that can't be renewed is better than none.
func (d *download) ready(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Before(d.again) {
		return d.err
	}
	if d.current() == "" {
		d.name.Store(d.last())
	}
	_, err := within(ctx, downloadFor, func(ctx context.Context) (struct{}, error) { return struct{}{}, d.renew(ctx) })
	d.again, d.err = time.Now().Add(newAfter), nil
	if err != nil {
		d.again = time.Now().Add(retryFirst)
	}
	if err != nil && d.current() == "" {
		d.err = fmt.Errorf("no vulnerability database: %v", err) // no %w: that it is missing is not that the image is
	}
	return d.err
}

// last is the database that an earlier process has left; "": none.
func (d *download) last() string {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return ""
	}
	newest, at := "", time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.IsDir() && e.Name()[0] != '.' && info.ModTime().After(at) && complete(filepath.Join(d.dir, e.Name())) {
			newest, at = e.Name(), info.ModTime()
		}
	}
	return newest
}

// renew downloads what the reference leads to, unless it is there.
func (d *download) renew(ctx context.Context) error {
	digest, err := d.registry.digest(ctx, d.ref)
	if err != nil {
		return of(d.ref, err)
	}
	if digest.Hex == d.current() {
		return nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(d.dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	if err := d.fetch(ctx, digest, temporary); err != nil {
		return of(d.ref, err)
	}
	if err := os.Rename(temporary, filepath.Join(d.dir, digest.Hex)); err != nil {
		return err
	}
	d.name.Store(digest.Hex)
	d.tidy()
	return nil
}

// fetch puts the files of a database into a directory.
func (d *download) fetch(ctx context.Context, digest v1.Hash, into string) error {
	image, err := remote.Image(d.ref.Context().Digest(digest.String()), d.registry.options(ctx)...)
	if err != nil {
		return err
	}
	list, err := image.Manifest()
	if err != nil {
		return err
	}
	if len(list.Layers) != 1 {
		return fmt.Errorf("has %d layers: a vulnerability database has one", len(list.Layers))
	}
	layer, err := image.LayerByDigest(list.Layers[0].Digest)
	if err != nil {
		return err
	}
	compressed, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer func() { _ = compressed.Close() }()
	wire, left := int64(databaseBytes), int64(databaseBytes)
	fetched := &boundedReader{ctx, compressed, &wire}
	plain, stop, err := decompress(fetched)
	if err != nil {
		return err
	}
	defer stop()
	if err := unpack(tar.NewReader(&boundedReader{ctx, plain, &left}), into); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, fetched); err != nil { // to the end, where its digest is checked
		return err
	}
	if !complete(into) {
		return errors.New("has no trivy.db in it")
	}
	return nil
}

func unpack(files *tar.Reader, into string) error {
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg || !slices.Contains(fileNames, header.Name) {
			continue
		}
		file, err := os.OpenFile(filepath.Join(into, header.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, files)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
}

// tidy removes the databases that are not used any more.
func (d *download) tidy() {
	handle.Lock() // nobody reads one now
	defer handle.Unlock()
	entries, _ := os.ReadDir(d.dir)
	for _, e := range entries {
		if e.Name() != d.current() {
			_ = os.RemoveAll(filepath.Join(d.dir, e.Name()))
		}
	}
}
