package secrets

import (
	"fmt"
	"slices"
	"strings"
)

// CheckGrant says whether a text is a path that a source may be allowed to read:
// a path as it is, one that ends in /* for all below it, and with + for any one
// segment, as in OpenBao's policies.
func CheckGrant(grant string) error {
	path := strings.ReplaceAll(strings.TrimSuffix(grant, "/*"), "+", "any")
	if err := checkPath(path); err != nil || strings.Contains(path, "*") {
		return fmt.Errorf("%q grants nothing: write a path, or one that ends in /*; + stands for one segment", grant)
	}
	return nil
}

// granted says whether one of the grants covers a path.
func granted(grants []string, path string) bool {
	for _, grant := range grants {
		if CheckGrant(grant) == nil && covers(grant, path) {
			return true
		}
	}
	return false
}

// grantedKey says whether one of the grants covers a path of transit, with decrypt
// written out: who may read all of an engine is not asked to open keys with it.
func grantedKey(grants []string, mount, path string) bool {
	at := strings.Count(mount, "/") + 1
	return slices.ContainsFunc(grants, func(grant string) bool {
		segments := strings.Split(strings.TrimSuffix(grant, "/*"), "/")
		return len(segments) > at && segments[at] == "decrypt" && granted([]string{grant}, path)
	})
}

func covers(grant, path string) bool {
	grant, below := strings.CutSuffix(grant, "/*")
	want, have := strings.Split(grant, "/"), strings.Split(path, "/")
	if len(have) < len(want) || below != (len(have) > len(want)) {
		return false
	}
	for i, segment := range want {
		if segment != "+" && segment != have[i] {
			return false
		}
	}
	return true
}
