package fetch

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

const maxCommit = 4 << 20 // bytes of one commit or tag object

// commit is a commit as it is needed here, with the bytes that its signature covers.
type commit struct {
	*object.Commit
	raw []byte
	tag *signedTag // the annotated tag that led here, if any
}

type signedTag struct {
	tagObject
	raw []byte
}

func decodeCommit(data []byte) (*commit, error) {
	o := &plumbing.MemoryObject{}
	o.SetType(plumbing.CommitObject)
	if _, err := o.Write(data); err != nil {
		return nil, err
	}
	c := &object.Commit{}
	if err := c.Decode(o); err != nil {
		return nil, fmt.Errorf("%w: decode commit: %s", ErrProtocol, printable(err.Error(), 200))
	}
	return &commit{Commit: c, raw: data}, nil
}

// peel finds the commit that a tip leads to. The outermost tag is kept: its signature covers all that follows.
func (st *store) peel(id plumbing.Hash) (*commit, error) {
	var tag *signedTag
	for range 10 {
		kind, data, err := st.object(id, maxCommit)
		if err != nil {
			return nil, err
		}
		switch kind {
		case plumbing.CommitObject:
			c, err := decodeCommit(data)
			if err == nil {
				c.tag = tag
			}
			return c, err
		case plumbing.TagObject:
			t, err := parseTag(data)
			if err != nil {
				return nil, fmt.Errorf("%w: tag object %s: %w", ErrProtocol, id, err)
			}
			if tag == nil {
				tag = &signedTag{t, data}
			}
			id = t.target
		default:
			return nil, fmt.Errorf("%w: it leads to a %s, not to a commit", ErrRefNotFound, kind)
		}
	}
	return nil, fmt.Errorf("%w: more than 10 tags that point to tags", ErrRefNotFound)
}

// parents reads only what a walk through history needs.
func (st *store) parents(id plumbing.Hash) ([]plumbing.Hash, error) {
	_, data, err := st.object(id, maxCommit)
	if err != nil {
		return nil, err
	}
	return parentsOf(data), nil
}

func parentsOf(data []byte) (ids []plumbing.Hash) {
	head, _, _ := strings.Cut(string(data), "\n\n")
	for line := range strings.SplitSeq(head, "\n") {
		if v, ok := strings.CutPrefix(line, "parent "); ok {
			ids = append(ids, plumbing.NewHash(v))
		} else if strings.HasPrefix(line, "author ") {
			break
		}
	}
	return ids
}

func (c *commit) author() string {
	return printable(c.Author.Name, 100) + " <" + printable(c.Author.Email, 100) + ">"
}

func (c *commit) subject() string {
	first, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return printable(first, 200)
}

// splitSignature separates a commit from its signature: the payload is the commit without its gpgsig header. What the
// signature does not cover anybody can change, and so give an old signed commit a new id: there may be one signature,
// where git puts it, and no other header that readers leave out of the payload.
func splitSignature(raw []byte) (payload, signature string, err error) {
	head, message, ok := strings.Cut(string(raw), "\n\n")
	if !ok {
		return "", "", errors.New("malformed commit")
	}
	var kept, sig []string
	taking := false
	for line := range strings.SplitSeq(head, "\n") {
		rest, more := strings.CutPrefix(line, " ")
		value, isSig := strings.CutPrefix(line, "gpgsig ")
		switch {
		case more && taking:
			sig = append(sig, rest)
		case isSig && sig != nil:
			return "", "", errors.New("it carries more than one signature")
		case isSig:
			sig, taking = []string{value}, true
		case strings.HasPrefix(line, "gpgsig"): // gpgsig-sha256, and what may come
			return "", "", fmt.Errorf("it carries the header %q, which its signature does not cover", printable(line, 20))
		case sig != nil:
			return "", "", errors.New("it carries a header behind its signature, where git writes none")
		default:
			kept = append(kept, line)
		}
	}
	if sig == nil {
		return string(raw), "", nil
	}
	return strings.Join(kept, "\n") + "\n\n" + message, strings.Join(sig, "\n") + "\n", nil
}

// splitTagSignature separates a tag from the signature at its end.
func splitTagSignature(raw []byte) (payload, signature string) {
	at := -1
	for _, begin := range []string{sshArmor, gpgArmor} {
		at = max(at, strings.LastIndex(string(raw), "\n"+begin))
	}
	if at < 0 {
		return string(raw), ""
	}
	return string(raw[:at+1]), string(raw[at+1:])
}

const (
	sshArmor = "-----BEGIN SSH SIGNATURE-----"
	gpgArmor = "-----BEGIN PGP SIGNATURE-----"
)
