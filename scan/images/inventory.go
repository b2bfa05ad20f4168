package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"path"
	"slices"
	"strings"

	"github.com/aquasecurity/trivy/pkg/dependency/parser/golang/binary"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/nodejs/packagejson"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
)

// inventoryFormat changes with what is read of an image.
const inventoryFormat = 1

// inventory is what is in an image. It is kept on disk.
type inventory struct {
	Format    int
	Family    string `json:",omitempty"` // of the distribution, as os-release has it
	Release   string `json:",omitempty"`
	Packages  []pkg  `json:",omitempty"` // of the distribution
	Libraries map[ftypes.LangType][]pkg
	Unread    []string `json:",omitempty"` // what it holds, and nobody has looked at
}

type pkg struct {
	Name, Version, Source, SourceVersion, Path string
}

// packagesMost bounds an inventory.
const packagesMost = 100_000

// collector takes out of an image's files what is installed.
type collector struct {
	in      inventory
	manager string // what the packages were installed with
	release map[string]string
	unread  map[string]bool
	dir     string // for programs, while they are read
}

func newCollector(dir string) *collector {
	return &collector{dir: dir, in: inventory{Format: inventoryFormat, Libraries: map[ftypes.LangType][]pkg{}}, release: map[string]string{}, unread: map[string]bool{}}
}

// taker reads a file of an image.
type taker func(ctx context.Context, name string, header *tar.Header, r io.Reader) error

// goBytes is what no Go program is smaller than.
const goBytes = 256 << 10

// wants says what is done with a file; nil: nothing.
func (c *collector) wants(name string, header *tar.Header) taker {
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	base, dir := path.Base(name), path.Dir(name)
	switch {
	case name == "etc/os-release" || name == "usr/lib/os-release":
		return c.osRelease
	case name == "lib/apk/db/installed" || name == "usr/lib/apk/db/installed":
		return c.apk
	case name == "var/lib/dpkg/status", dir == "var/lib/dpkg/status.d" && path.Ext(name) != ".md5sums":
		return c.dpkg
	case dir == "var/lib/rpm" || dir == "usr/lib/sysimage/rpm":
		return c.notRead("rpm packages")
	case slices.Contains([]string{".jar", ".war", ".ear"}, path.Ext(name)):
		return c.notRead("Java archives")
	case base == "package.json" && strings.Contains("/"+dir, "/node_modules/"):
		return c.node
	case base == "METADATA" && strings.HasSuffix(dir, ".dist-info"), base == "PKG-INFO" && strings.HasSuffix(dir, ".egg-info"):
		return c.python
	case header.Mode&0o111 != 0 && header.Size >= goBytes:
		return c.golang
	}
	return nil
}

func (c *collector) notRead(what string) taker {
	return func(context.Context, string, *tar.Header, io.Reader) error {
		c.unread[what] = true
		return nil
	}
}

func (c *collector) add(lang ftypes.LangType, packages ...pkg) error {
	into := &c.in.Packages
	var libraries []pkg
	if lang != "" {
		libraries = c.in.Libraries[lang]
		into = &libraries
	}
	if len(*into)+len(packages) > packagesMost {
		return fmt.Errorf("more than %d packages", packagesMost)
	}
	for _, p := range packages {
		if n := len(p.Name) + len(p.Version) + len(p.Source) + len(p.SourceVersion); n > nameBytes {
			return fmt.Errorf("a package with a name of %d bytes: at most %d", n, nameBytes)
		}
	}
	*into = append(*into, packages...)
	if lang != "" {
		c.in.Libraries[lang] = libraries
	}
	return nil
}

// osRelease reads the standard file that says which distribution it is.
func (c *collector) osRelease(_ context.Context, name string, _ *tar.Header, r io.Reader) error {
	if name != "etc/os-release" && len(c.release) > 0 {
		return nil
	}
	data, err := inMemory(r)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && (key == "ID" || key == "VERSION_ID") {
			c.release[key] = strings.Trim(value, `"'`)
		}
	}
	return nil
}

// stanzaFields are those that are read, of both.
var stanzaFields = []string{"P", "V", "o", "Package", "Version", "Source", "Status"}

// stanzas calls each with the fields of one package: KEY:VALUE or "KEY: VALUE" in a line each,
// a package ends with an empty line.
func stanzas(data []byte, each func(map[string]string) error) error {
	fields := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, fileBytes)
	for lines.Scan() {
		line := lines.Text()
		key, value, ok := strings.Cut(line, ":")
		switch {
		case strings.TrimSpace(line) == "":
			if err := each(fields); err != nil {
				return err
			}
			fields = map[string]string{}
		case ok && slices.Contains(stanzaFields, key):
			fields[key] = strings.TrimSpace(value)
		}
	}
	return errors.Join(lines.Err(), each(fields))
}

// apk reads Alpine's database: P is the name, V the version, o the source.
func (c *collector) apk(_ context.Context, _ string, _ *tar.Header, r io.Reader) error {
	c.manager = "apk"
	data, err := inMemory(r)
	if err != nil {
		return err
	}
	return stanzas(data, func(f map[string]string) error {
		if f["P"] == "" || f["V"] == "" {
			return nil
		}
		source := f["o"]
		if source == "" {
			source = f["P"]
		}
		return c.add("", pkg{Name: f["P"], Version: f["V"], Source: source, SourceVersion: f["V"]})
	})
}

// dpkg reads Debian's database, as one file or, in distroless images, a file for each package.
func (c *collector) dpkg(_ context.Context, _ string, _ *tar.Header, r io.Reader) error {
	c.manager = "dpkg"
	data, err := inMemory(r)
	if err != nil {
		return err
	}
	return stanzas(data, func(f map[string]string) error {
		if status, there := f["Status"]; f["Package"] == "" || f["Version"] == "" || (there && !strings.HasSuffix(status, " installed")) {
			return nil
		}
		p := pkg{Name: f["Package"], Version: f["Version"], Source: f["Package"], SourceVersion: f["Version"]}
		if source, version, ok := strings.Cut(f["Source"], " ("); source != "" { // "glibc (2.36-9)", where it has another version
			p.Source = source
			if ok {
				p.SourceVersion = strings.TrimSuffix(version, ")")
			}
		}
		return c.add("", p)
	})
}

func (c *collector) node(_ context.Context, name string, _ *tar.Header, r io.Reader) error {
	data, err := inMemory(r)
	if err != nil {
		return err
	}
	p, err := packagejson.NewParser().Parse(bytes.NewReader(data))
	if err != nil || p.Version == "" {
		return nil //nolint:nilerr // many files of that name are tests, and no packages
	}
	return c.add(ftypes.NodePkg, pkg{Name: p.Name, Version: p.Version, Path: name})
}

func (c *collector) python(_ context.Context, name string, _ *tar.Header, r io.Reader) error {
	data, err := inMemory(r)
	if err != nil {
		return err
	}
	header, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(data))).ReadMIMEHeader() // what was read before an error counts
	if header.Get("Name") == "" || header.Get("Version") == "" {
		c.unread["Python packages without a name or a version"] = true
		return nil
	}
	return c.add(ftypes.PythonPkg, pkg{Name: header.Get("Name"), Version: header.Get("Version"), Path: name})
}

// golang reads what Go's linker has put into a program.
func (c *collector) golang(ctx context.Context, name string, _ *tar.Header, r io.Reader) error {
	start := bufio.NewReader(r)
	if magic, err := start.Peek(4); err != nil || string(magic) != "\x7fELF" {
		return nil // a script
	}
	file, err := onDisk(c.dir, start)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	modules, err := goModules(ctx, file)
	switch {
	case errors.Is(err, binary.ErrNonGoBinary), errors.Is(err, binary.ErrUnrecognizedExe):
		return nil
	case err != nil:
		c.unread["programs that can't be read"] = true
		return nil
	}
	for _, m := range modules {
		if err := c.add(ftypes.GoBinary, pkg{Name: m.Name, Version: m.Version, Path: name}); err != nil {
			return err
		}
	}
	return nil
}

func goModules(ctx context.Context, file readerAt) (modules []ftypes.Package, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("crashed: %v", p)
		}
	}()
	modules, _, err = binary.NewParser().Parse(ctx, file)
	return modules, err
}

type readerAt interface {
	io.ReadSeeker
	io.ReaderAt
}

// inventory is what was collected.
func (c *collector) inventory() inventory {
	in := c.in
	in.Family, in.Release = c.release["ID"], c.release["VERSION_ID"]
	if in.Family == "alpine" && strings.Contains(in.Release, "_") { // 3.23.0_alpha20250612
		in.Release = "edge"
	}
	if len(in.Packages) > 0 && in.Family == "" {
		c.unread[c.manager+" packages of an unknown distribution"] = true
		in.Packages = nil
	}
	for what := range c.unread {
		in.Unread = append(in.Unread, what)
	}
	slices.Sort(in.Unread)
	return in
}
