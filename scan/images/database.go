package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aquasecurity/trivy-db/pkg/db"
	dbtypes "github.com/aquasecurity/trivy-db/pkg/types"
	"github.com/aquasecurity/trivy/pkg/detector/library"
	"github.com/aquasecurity/trivy/pkg/detector/ospkg"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/purl"
	"github.com/aquasecurity/trivy/pkg/types"
	"github.com/aquasecurity/trivy/pkg/vulnerability"
	bolt "go.etcd.io/bbolt"
)

// database is Trivy's, of vulnerabilities.
type database struct {
	dir    string    // where it is; "": it is downloaded
	remote *download // where it is from; nil: it is put there by somebody else
}

// handle guards what trivy-db has only one of in a process: the open database. It is opened
// for each image, which costs a mapping: whoever replaces the file is in nobody's way.
var handle sync.Mutex

func newDatabase(location string, kept store, r *registry) (*database, error) {
	reference, remote := strings.CutPrefix(location, "oci://")
	if !remote {
		return &database{dir: location}, nil
	}
	d, err := newDownload(reference, kept, r)
	return &database{remote: d}, err
}

// ready has the database there, and not older than it has to be.
func (d *database) ready(ctx context.Context) error {
	if d.remote == nil {
		return nil
	}
	return d.remote.ready(ctx)
}

func (d *database) at() string {
	if d.remote != nil {
		return d.remote.at()
	}
	return d.dir
}

// detect asks what is known of an inventory.
func (d *database) detect(ctx context.Context, in inventory) (found []Vulnerability, err error) {
	handle.Lock()
	defer handle.Unlock()
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			err = fmt.Errorf("the vulnerability database in %s is damaged: %s", d.at(), cut(fmt.Sprint(p)))
		}
	}(debug.SetPanicOnFault(true)) // the file is mapped: where it is cut short, reading it is a fault
	if err := open(d.at()); err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	debug.SetPanicOnFault(true) // opening has turned it off
	var detected []types.DetectedVulnerability
	var unknown []error
	if len(in.Packages) > 0 {
		more, err := ofDistribution(ctx, in)
		detected, unknown = more, append(unknown, err)
	}
	for lang, packages := range in.Libraries {
		more, err := ofLanguage(ctx, lang, packages)
		detected, unknown = append(detected, more...), append(unknown, err)
	}
	vulnerability.NewClient(db.Config{}).FillInfo(detected, []dbtypes.SourceID{"auto"})
	for _, v := range detected {
		found = append(found, told(v))
	}
	return found, errors.Join(unknown...)
}

// open opens a database that is there, to read it.
func open(dir string) error {
	file := db.Path(dir)
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("no vulnerability database in %s: want trivy.db there, or oci://… in scan.images.database", dir)
	}
	if info.Size() == 0 {
		return fmt.Errorf("the vulnerability database in %s is empty", dir)
	}
	// A file that was opened by trivy-db and turns out to be damaged is deleted by it: it is looked at first.
	probe, err := bolt.Open(file, 0o600, readOnly())
	if err != nil {
		return fmt.Errorf("the vulnerability database in %s can't be opened: %w", dir, err)
	}
	if err := probe.Close(); err != nil {
		return err
	}
	if err := db.Init(dir, db.WithBoltOptions(readOnly())); err != nil {
		return fmt.Errorf("the vulnerability database in %s can't be opened: %w", dir, err)
	}
	return nil
}

func readOnly() *bolt.Options {
	return &bolt.Options{ReadOnly: true, Timeout: 5 * time.Second}
}

// knows is true if the database has something of that name, or that begins with it.
func knows(name string) bool {
	found := false
	_ = db.Config{}.Connection().View(func(tx *bolt.Tx) error {
		k, _ := tx.Cursor().Seek([]byte(name))
		found = string(k) == name || (strings.HasSuffix(name, "::") && strings.HasPrefix(string(k), name))
		return nil
	})
	return found
}

// streams are the distributions that are looked at, with how much of a release the database
// names. Of a release that it doesn't know, it would say that all is well.
var streams = map[string]int{"alpine": 2, "debian": 1, "ubuntu": 2, "wolfi": 0, "chainguard": 0}

func ofDistribution(ctx context.Context, in inventory) ([]types.DetectedVulnerability, error) {
	parts, ok := streams[in.Family]
	name := in.Family
	if release := strings.Split(in.Release, "."); parts > 0 {
		name += " " + strings.Join(release[:min(len(release), parts)], ".")
	}
	if !ok || !knows(name) {
		return nil, fmt.Errorf("the vulnerability database knows nothing of packages of %s", cut(name))
	}
	target := types.ScanTarget{OS: ftypes.OS{Family: ftypes.OSType(in.Family), Name: in.Release}}
	if in.Release == "edge" {
		target.Repository = &ftypes.Repository{Family: ftypes.Alpine, Release: in.Release}
	}
	all := packagesOf(in.Packages, ftypes.TargetType(in.Family), types.Metadata{OS: &target.OS})
	return inChunks(ctx, all, func(some []ftypes.Package) ([]types.DetectedVulnerability, error) {
		target.Packages = some
		detector, err := ospkg.NewDetector(target)
		if err != nil {
			return nil, fmt.Errorf("packages of %s: %w", cut(name), err)
		}
		found, _, err := detector.Detect(ctx)
		return found, err
	})
}

// Bounds of what the database is asked at once, and may say of one image.
const (
	chunk               = 10
	vulnerabilitiesMost = 10_000
)

// inChunks asks about some packages after the other: all that are in an image may be of the one that has most advisories.
func inChunks(ctx context.Context, all []ftypes.Package, ask func([]ftypes.Package) ([]types.DetectedVulnerability, error)) (found []types.DetectedVulnerability, err error) {
	for some := range slices.Chunk(all, chunk) {
		if ctx.Err() != nil {
			return found, ctx.Err()
		}
		more, err := ask(some)
		if err != nil {
			return found, err
		}
		if found = append(found, more...); len(found) > vulnerabilitiesMost {
			return nil, fmt.Errorf("has more than %d vulnerabilities", vulnerabilitiesMost)
		}
	}
	return found, nil
}

// ecosystems are as the database names them.
var ecosystems = map[ftypes.LangType]string{ftypes.GoBinary: "go", ftypes.NodePkg: "npm", ftypes.PythonPkg: "pip"}

func ofLanguage(ctx context.Context, lang ftypes.LangType, packages []pkg) ([]types.DetectedVulnerability, error) {
	if !knows(ecosystems[lang] + "::") {
		return nil, fmt.Errorf("the vulnerability database knows nothing of %s packages", ecosystems[lang])
	}
	return inChunks(ctx, packagesOf(packages, ftypes.TargetType(lang), types.Metadata{}), func(some []ftypes.Package) ([]types.DetectedVulnerability, error) {
		return library.Detect(ctx, lang, some)
	})
}

func packagesOf(list []pkg, kind ftypes.TargetType, metadata types.Metadata) []ftypes.Package {
	out := make([]ftypes.Package, len(list))
	for i, p := range list {
		out[i] = ftypes.Package{ID: p.Name + "@" + p.Version, Name: p.Name, Version: p.Version, SrcName: p.Source, SrcVersion: p.SourceVersion, FilePath: p.Path}
		if url, err := purl.New(kind, metadata, out[i]); err == nil {
			out[i].Identifier.PURL = url.Unwrap()
		}
	}
	return out
}

func told(v types.DetectedVulnerability) Vulnerability {
	out := Vulnerability{ID: v.VulnerabilityID, Severity: v.Severity, //nolint:staticcheck // where FillInfo puts what it has chosen
		Title: cut(v.Title), Package: cut(v.PkgName), Version: cut(v.InstalledVersion),
		Fixed: cut(v.FixedVersion), URL: v.PrimaryURL, Path: cut(v.PkgPath)}
	if v.PkgIdentifier.PURL != nil {
		out.PURL = v.PkgIdentifier.PURL.String()
	}
	if out.Title == "" {
		out.Title = out.ID
	}
	return out
}

// fileNames are what a database consists of.
var fileNames = []string{"trivy.db", "metadata.json"}

func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, fileNames[0]))
	return err == nil
}
