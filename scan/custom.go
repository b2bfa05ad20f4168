package scan

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/plumbline-dev/plumbline/scan/checks"
)

// ownChecks are those of a repository.
type ownChecks struct {
	id    digest
	files map[string]string
}

// ownOf are the checks that the stack brings; nil: none, or none that can be read, and
// then it is a finding.
func ownOf(r Request) (*ownChecks, []Finding) {
	if r.Policy.Checks == "" {
		return nil, nil
	}
	dir := path.Join(r.Dir, r.Policy.Checks)
	files, err := checks.Sources(r.FS, dir)
	if err != nil {
		return nil, []Finding{broken(idChecks, "Checks of the repository can't be read", fmt.Errorf("scan.checks: %w", plain(dir, err)), "name a directory of Rego files, from stack.yaml")}
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%q %q\n", name, files[name])
	}
	return &ownChecks{digest(sum.Sum(nil)), files}, nil
}

// plain says of a file in a repository what people understand.
func plain(name string, err error) error {
	switch {
	case !fs.ValidPath(name):
		return fmt.Errorf("%s leaves the repository", name)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there", name)
	}
	return err
}

// judge has a repository's checks look at objects. They don't see what was opened: what
// they say is told, and they could say it in any other way. The finding says that they can't
// be used.
func (c *ownChecks) judge(ctx context.Context, r Request, objects []Object) ([][]Finding, *Finding, error) {
	inputs := make([]map[string]any, len(objects))
	for i, o := range objects {
		inputs[i], _ = r.maskedIn(withoutData(o.Object)).(map[string]any)
	}
	answers, err := checks.Judge(ctx, c.files, inputs)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		f := broken(idChecks, "Checks of the repository can't be used", err, "mend the check")
		if errors.Is(err, checks.ErrChild) {
			f.retry = time.Now().Add(retryAfter)
		}
		return nil, &f, nil
	}
	found := make([][]Finding, len(objects))
	for i, of := range answers {
		for _, f := range of {
			found[i] = append(found[i], misconfiguration(f, inputs[i]))
		}
		found[i] = r.about(objects[i], found[i])
	}
	return found, nil, nil
}

// maskedIn is a value with everything masked in it.
func (r Request) maskedIn(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, child := range v {
			out[r.mask(key)] = r.maskedIn(child)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, child := range v {
			out[i] = r.maskedIn(child)
		}
		return out
	case string:
		return r.mask(v)
	case nil, bool:
		return v
	}
	text := fmt.Sprint(value)
	if masked := r.mask(text); masked != text {
		return masked
	}
	return value
}

var containerField = regexp.MustCompile(`^(.*[cC]ontainers)\[(\d+)\]`)

// containerAt is the name of the container that a field belongs to.
func containerAt(object map[string]any, field string) string {
	m := containerField.FindStringSubmatch(field)
	if m == nil {
		return ""
	}
	list, _ := at(object, m[1]).([]any)
	index, err := strconv.Atoi(m[2])
	if err != nil || index >= len(list) {
		return ""
	}
	container, _ := list[index].(map[string]any)
	name, _ := container["name"].(string)
	return name
}

var step = regexp.MustCompile(`([^.\[\]]+)|\[(\d+)\]`)

// at follows a field.
func at(value any, field string) any {
	for _, s := range step.FindAllStringSubmatch(field, -1) {
		switch v := value.(type) {
		case map[string]any:
			value = v[s[1]]
		case []any:
			i, err := strconv.Atoi(s[2])
			if err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}
