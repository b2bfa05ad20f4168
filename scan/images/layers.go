package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// Bounds of what is read of an image, besides its bytes.
const (
	fileBytes   = 64 << 20  // of a file that is kept in memory while it is read
	diskBytes   = 512 << 20 // of a program that is kept on disk while it is read: a sparse file is larger than its layer
	nameBytes   = 4096      // of a path, and of what names and versions packages
	hiddenPaths = 100_000   // that layers take away
	seenPaths   = 200_000   // that were looked at
	zstdWindow  = 64 << 20
)

// read finds out what is in an image, from its layers as they come: the uppermost first,
// since it hides what is below.
func read(ctx context.Context, image v1.Image, maxBytes int64, dir string) (inventory, error) {
	layers, err := image.Layers()
	if err != nil {
		return inventory{}, fmt.Errorf("read layers: %w", saying(err))
	}
	w := walk{left: maxBytes, wire: maxBytes, seen: map[string]bool{}, gone: map[string]bool{}, collect: newCollector(dir)}
	for _, layer := range slices.Backward(layers) {
		digest, err := layer.Digest()
		if err == nil {
			err = w.layer(ctx, layer)
		}
		if err != nil {
			return inventory{}, fmt.Errorf("read layer %s: %w", digest, saying(err))
		}
	}
	return w.collect.inventory(), nil
}

// walk goes through the layers of an image.
type walk struct {
	left    int64 // bytes that may still be read
	wire    int64 // the same, compressed
	seen    map[string]bool
	gone    map[string]bool // paths that upper layers took away, with all below
	collect *collector
}

func (w *walk) layer(ctx context.Context, layer v1.Layer) error {
	compressed, err := layer.Compressed() // what comes is checked against its digest, at its end
	if err != nil {
		return err
	}
	defer func() { _ = compressed.Close() }()
	fetched := &boundedReader{ctx, compressed, &w.wire}
	plain, stop, err := decompress(fetched)
	if err != nil {
		return err
	}
	defer stop()
	bounded := &boundedReader{ctx, plain, &w.left}
	gone, err := w.entries(ctx, tar.NewReader(bounded))
	if err != nil {
		return err
	}
	for _, rest := range []io.Reader{bounded, fetched} {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return err
		}
	}
	for _, p := range gone {
		w.gone[p] = true
	}
	if len(w.gone) > hiddenPaths {
		return fmt.Errorf("takes away more than %d paths", hiddenPaths)
	}
	return nil
}

// entries goes through one layer, and returns what it takes away from those below.
func (w *walk) entries(ctx context.Context, files *tar.Reader) (gone []string, err error) {
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return gone, nil
		}
		if err != nil {
			return nil, err
		}
		if len(header.Name) > nameBytes {
			return nil, fmt.Errorf("has a path of %d bytes: at most %d", len(header.Name), nameBytes)
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		if base := path.Base(name); strings.HasPrefix(base, ".wh.") {
			if len(gone) > hiddenPaths {
				return nil, fmt.Errorf("takes away more than %d paths", hiddenPaths)
			}
			if base == ".wh..wh..opq" {
				gone = append(gone, path.Dir(name)+"/")
			} else {
				gone = append(gone, path.Join(path.Dir(name), strings.TrimPrefix(base, ".wh.")))
			}
			continue
		}
		take := w.collect.wants(name, header)
		if take == nil || w.seen[name] || w.hides(name) {
			continue
		}
		if w.seen[name] = true; len(w.seen) > seenPaths {
			return nil, fmt.Errorf("has more than %d files to look at", seenPaths)
		}
		if err := take(ctx, name, header, files); err != nil {
			return nil, fmt.Errorf("%s: %w", cut(name), err)
		}
	}
}

// hides is true for what an upper layer has taken away: itself, or a directory above it.
func (w *walk) hides(name string) bool {
	if len(w.gone) == 0 {
		return false
	}
	if w.gone[name] || w.gone["./"] {
		return true
	}
	for at := path.Dir(name); at != "."; at = path.Dir(at) {
		if w.gone[at] || w.gone[at+"/"] {
			return true
		}
	}
	return false
}

// decompress reads gzip, zstd, or what is neither.
func decompress(r io.Reader) (plain io.Reader, stop func(), err error) {
	buffered := bufio.NewReader(r)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		return z, func() {}, err
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return buffered, func() {}, nil
}

// boundedReader ends with an error when there is more than may be read.
type boundedReader struct {
	ctx  context.Context //nolint:containedctx // of the one read that it is made for
	r    io.Reader
	left *int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if *b.left -= int64(n); *b.left < 0 {
		return 0, errors.New("is larger than what is looked at")
	}
	return n, err
}

// inMemory reads a small file.
func inMemory(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, fileBytes+1))
	if len(data) > fileBytes {
		return nil, fmt.Errorf("is larger than %d MiB", fileBytes>>20)
	}
	return data, err
}

// onDisk puts a file where it can be read in any order. It has no name any more: whatever
// happens, it is gone with the process.
func onDisk(dir string, r io.Reader) (*os.File, error) {
	file, err := os.CreateTemp(dir, "plumbline-image-*")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(file.Name()); err == nil {
		var n int64
		if n, err = io.Copy(file, io.LimitReader(r, diskBytes+1)); n > diskBytes {
			err = fmt.Errorf("is larger than %d MiB", diskBytes>>20)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
