package render

import (
	"net/url"
	"regexp"
	"strings"
)

// userAtHost is how kustomize tells user@host:path from a directory.
var userAtHost = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*@`)

// isRemote says whether kustomize could take an entry for something to fetch. It refuses a
// little more than kustomize would fetch: a directory by such a name can be written ./name.
// Source: kustomize api/internal/git/repospec.go and api/internal/loader/fileloader.go, v0.21.
func isRemote(entry string) bool {
	if u, err := url.Parse(entry); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return true
	}
	lower := strings.ToLower(strings.TrimSpace(entry))
	for _, prefix := range []string{"git::", "github.com/", "github.com:", "http:", "https:"} {
		if strings.HasPrefix(lower, prefix) {
			return true
		}
	}
	return strings.Contains(lower, "://") || userAtHost.MatchString(lower)
}
