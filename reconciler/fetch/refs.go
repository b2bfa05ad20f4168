package fetch

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

// tip is where a ref of the remote points to.
type tip struct {
	name string        // full, validated
	id   plumbing.Hash // of a commit, or of an annotated tag
}

const maxListed = 10 // names in an error

// choose finds the tip that r means among the refs that a remote advertises. Names come from the remote: those that are
// not well-formed are never chosen, printed or written.
func choose(r Ref, adv *packp.AdvRefs) (tip, error) {
	switch {
	case r.Branch != "":
		return exact("refs/heads/", r.Branch, "branches", adv)
	case r.Tag != "":
		return exact("refs/tags/", r.Tag, "tags", adv)
	case r.Semver != "":
		return highest(r.Semver, adv)
	}
	return head(adv)
}

func exact(prefix, short, what string, adv *packp.AdvRefs) (tip, error) {
	name := prefix + short
	if id, ok := adv.References[name]; ok && validRef(name) {
		return tip{name, id}, nil
	}
	names := namesBelow(prefix, adv)
	slices.Sort(names)
	return tip{}, fmt.Errorf("%w: %s; %s", ErrRefNotFound, name, listing(what, names))
}

// head follows what HEAD names. Where the server does not say, it is the one branch with HEAD's commit.
func head(adv *packp.AdvRefs) (tip, error) {
	for _, s := range adv.Capabilities.Get(capability.SymRef) {
		name, ok := strings.CutPrefix(s, "HEAD:")
		if !ok {
			continue
		}
		short, isBranch := strings.CutPrefix(name, "refs/heads/")
		if !isBranch || !validRef(name) {
			return tip{}, fmt.Errorf("%w: HEAD points to %q", ErrRefNotFound, printable(name, 200))
		}
		return exact("refs/heads/", short, "branches", adv)
	}
	if adv.Head == nil {
		return tip{}, withHint(fmt.Errorf("%w: the remote has no HEAD", ErrRefNotFound), "set ref.branch")
	}
	var same []string
	for _, short := range namesBelow("refs/heads/", adv) {
		if adv.References["refs/heads/"+short] == *adv.Head {
			same = append(same, short)
		}
	}
	if len(same) != 1 {
		return tip{}, withHint(fmt.Errorf("%w: the remote does not say which branch HEAD is", ErrRefNotFound), "set ref.branch")
	}
	return tip{"refs/heads/" + same[0], *adv.Head}, nil
}

// highest finds the highest version in the range. Of tags that name the same version the one that sorts last is taken
// (v1.2.0 before 1.2.0), so that the choice does not depend on the order of the listing.
func highest(constraint string, adv *packp.AdvRefs) (tip, error) {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return tip{}, fmt.Errorf("%w: ref.semver %q: %v", ErrInvalid, constraint, err)
	}
	type tagged struct {
		version *semver.Version
		short   string
	}
	var all []tagged
	for _, short := range namesBelow("refs/tags/", adv) {
		if v, err := semver.StrictNewVersion(strings.TrimPrefix(short, "v")); err == nil {
			all = append(all, tagged{v, short})
		}
	}
	slices.SortFunc(all, func(a, b tagged) int {
		return -cmpOr(a.version.Compare(b.version), strings.Compare(a.version.Metadata(), b.version.Metadata()), strings.Compare(a.short, b.short))
	})
	names := make([]string, len(all))
	for i, t := range all {
		if c.Check(t.version) {
			name := "refs/tags/" + t.short
			return tip{name, adv.References[name]}, nil
		}
		names[i] = t.short
	}
	return tip{}, fmt.Errorf("%w: no tag in the range %q; %s", ErrRefNotFound, constraint, listing("versions, newest first", names))
}

func cmpOr(vals ...int) int {
	for _, v := range vals {
		if v != 0 {
			return v
		}
	}
	return 0
}

// namesBelow lists short names of well-formed refs, unsorted.
func namesBelow(prefix string, adv *packp.AdvRefs) (names []string) {
	for name := range adv.References {
		if short, ok := strings.CutPrefix(name, prefix); ok && validRef(name) {
			names = append(names, short)
		}
	}
	return names
}

func listing(what string, names []string) string {
	if len(names) == 0 {
		return "the remote has no " + what
	}
	more := ""
	if n := len(names) - maxListed; n > 0 {
		names, more = names[:maxListed], fmt.Sprintf(" and %d more", n)
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = printable(n, 100)
	}
	return "the remote has the " + what + " " + strings.Join(quoted, ", ") + more
}

// tagObject is what an annotated tag says. Format: git-mktag(1).
type tagObject struct {
	target plumbing.Hash
	kind   string
	name   string
}

func parseTag(data []byte) (tagObject, error) {
	var t tagObject
	head, _, _ := strings.Cut(string(data), "\n\n")
	for i, key := range []string{"object ", "type ", "tag "} {
		line, rest, _ := strings.Cut(head, "\n")
		value, ok := strings.CutPrefix(line, key)
		if !ok {
			return t, errors.New("malformed tag")
		}
		head = rest
		switch i {
		case 0:
			if !plumbing.IsHash(value) {
				return t, errors.New("malformed tag")
			}
			t.target = plumbing.NewHash(value)
		case 1:
			t.kind = value
		case 2:
			t.name = value
		}
	}
	return t, nil
}
