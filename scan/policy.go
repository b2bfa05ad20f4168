package scan

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Policy is what a stack says of the gate, with its source's defaults under it.
type Policy struct {
	FailOn     Severity // from where on a finding denies; "": the operator's
	IgnoreFile string   // exceptions, relative to the stack's directory; "": .trivyignore.yaml there and at the root
	Checks     string   // a directory of checks in Rego, relative to the stack's directory; "": none
	Registries Registries
	Pin        Pin // "": the operator's
}

// Registries says where images may come from: REGISTRY or REGISTRY/PATH, with * in
// the place of a part. An image that names no registry comes from docker.io.
type Registries struct {
	Allow []string // empty: from everywhere
	Deny  []string
}

// Operator is what the daemon's operator says. What is fixed here, no repository loosens.
type Operator struct {
	FailOn Severity // for stacks that say nothing; "": DefaultFailOn
	// Floor is the loosest threshold that a stack may have. A finding as bad as that
	// is let pass by no repository's exception. "": there is none.
	Floor      Severity
	Registries Registries
	Pin        Pin
	Images     ImagePolicy
	// Exceptions are the operator's own.
	Exceptions Exceptions
}

// DefaultFailOn is the threshold where nobody says one.
const DefaultFailOn = SeverityCritical

// Pin is how an image has to be named.
type Pin string

// Ways to name an image.
const (
	PinNone   Pin = "none"   // anything will do
	PinTag    Pin = "tag"    // a tag other than latest, or a digest; the default
	PinDigest Pin = "digest" // a digest
)

// Validate refuses what is none.
func (p Pin) Validate() error {
	if p == "" || p == PinNone || p == PinTag || p == PinDigest {
		return nil
	}
	return fmt.Errorf("%q: want none, tag or digest", string(p))
}

func (p Pin) strictness() int {
	return slices.Index([]Pin{PinNone, PinTag, PinDigest}, cmp.Or(p, PinTag))
}

// failOn is the threshold of a stack.
func (o Operator) failOn(p Policy) Severity {
	threshold := cmp.Or(p.FailOn, o.FailOn, DefaultFailOn)
	if o.Floor != "" && threshold.rank() > o.Floor.rank() {
		return o.Floor
	}
	return threshold
}

// reserves says why no repository's exception lets a finding pass; "": one may.
func (o Operator) reserves(f Finding) string {
	switch {
	case f.fixed:
		return "the operator has fixed it in plumbline.yaml"
	case o.Floor != "" && f.Severity.rank() >= o.Floor.rank():
		return fmt.Sprintf("scan.floor is %s, and it is %s", o.Floor, f.Severity)
	}
	return ""
}

// stricter is the threshold from which more is denied.
func stricter(a, b Severity) Severity {
	if b.rank() < a.rank() {
		return b
	}
	return a
}

// pin is how the images of a stack have to be named. A stack loosens what the
// operator only has by default.
func (o Operator) pin(p Policy) (pin Pin, fixed bool) {
	if o.Pin != "" && o.Pin.strictness() >= p.Pin.strictness() {
		return o.Pin, true
	}
	return cmp.Or(p.Pin, o.Pin, PinTag), false
}

// Validate refuses patterns that match nothing.
func (r Registries) Validate() error {
	for _, p := range slices.Concat(r.Allow, r.Deny) {
		if host, _, _ := strings.Cut(p, "/"); !strings.ContainsAny(host, ".:*?[") && host != "localhost" {
			return fmt.Errorf("%q: %q is no registry: want REGISTRY or REGISTRY/PATH, such as docker.io/%s", p, host, p)
		}
		if _, err := path.Match(p, ""); err != nil || p == "" || strings.Contains(p, "://") || strings.ContainsAny(p, " \t\n") {
			return fmt.Errorf("%q: want REGISTRY or REGISTRY/PATH, such as ghcr.io/me or *.example.org", p)
		}
	}
	return nil
}

// refuses says why an image of this repository may not be used; "": it may.
func (r Registries) refuses(repository string) string {
	repository = canonical(repository, true)
	if p := matching(r.Deny, repository); p != "" {
		return "is denied by " + p
	}
	if len(r.Allow) > 0 && matching(r.Allow, repository) == "" {
		return "is not among " + strings.Join(r.Allow, ", ")
	}
	return ""
}

// canonical names a registry in one way only. Of an image, but not of a pattern, docker.io/NAME
// is official.
func canonical(repository string, official bool) string {
	host, rest, deeper := strings.Cut(repository, "/")
	host = strings.ToLower(host)
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 {
		switch port, err := strconv.Atoi(host[colon+1:]); {
		case err == nil && port == 443: // 0443 is that, too
			host = host[:colon]
		case err == nil:
			host = host[:colon+1] + strconv.Itoa(port)
		}
	}
	if slices.Contains([]string{"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}, host) {
		host = "docker.io"
	}
	if !deeper {
		return host
	}
	if host == "docker.io" && !strings.Contains(rest, "/") && official {
		rest = "library/" + rest
	}
	return host + "/" + rest
}

// matching is the first pattern that matches the repository, or a directory of it.
func matching(patterns []string, repository string) string {
	for _, p := range patterns {
		want := canonical(strings.TrimSuffix(p, "/"), false)
		parts := strings.Split(repository, "/")
		if depth := strings.Count(want, "/") + 1; depth <= len(parts) {
			if ok, _ := path.Match(want, strings.Join(parts[:depth], "/")); ok {
				return p
			}
		}
	}
	return ""
}
