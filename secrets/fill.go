package secrets

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// fill makes the text of each field; absent are those whose values can't be had
// now. Every value is known to the redactor before it is part of a text.
func fill(req Request, fields []field, readings map[question]*reading) (map[int]string, []*ReferenceError) {
	filled := map[int]string{}
	var errs []*ReferenceError
	for i, f := range fields {
		text, missing, wrong := f.fill(req, readings)
		errs = append(errs, wrong...)
		if !missing && len(wrong) == 0 {
			filled[i] = text
		}
	}
	return filled, errs
}

func (f field) fill(req Request, readings map[question]*reading) (text string, missing bool, errs []*ReferenceError) {
	var b strings.Builder
	var short bool
	for _, p := range f.pieces {
		if p.reference == nil {
			b.WriteString(p.text)
			continue
		}
		r := readings[p.reference.question()]
		if r == nil { // may not be asked: somebody said so
			missing = true
			continue
		}
		if r.err == nil && r.values == nil && (r.stale != nil || r.unmade) {
			missing = true
			continue
		}
		value, err := r.value(p.reference.Key)
		if err != nil {
			errs = append(errs, f.error(req.Objects[f.object], p.written(), err))
			continue
		}
		req.Redactor.Add(f.key(), []byte(value))
		short = short || req.Redactor.Text(value) == value
		b.WriteString(value)
	}
	text = b.String()
	if len(errs) == 0 && !missing {
		f.redact(req.Redactor, text, short)
	}
	return text, missing, errs
}

// redact makes the field as a whole known where it holds a value that is too short
// to be found in it.
func (f field) redact(to *Redactor, text string, short bool) {
	if !short || !hasReference(f.pieces) {
		return
	}
	if len(f.pieces) > 1 {
		to.Add(f.key(), []byte(text))
	}
	to.Add(f.key(), []byte(base64.StdEncoding.EncodeToString([]byte(text))))
}

// value is that of one key: a text, and not empty.
func (r *reading) value(key string) (string, error) {
	if r.err != nil {
		return "", r.err
	}
	raw, ok := r.values[key]
	if !ok {
		return "", fmt.Errorf("%s has no key %q", r.path, key)
	}
	if what := notText(raw); what != "" {
		return "", fmt.Errorf("%s#%s is %s, and only text can be put in place of a reference: write it to OpenBao as a string%s",
			r.path, key, what, r.instead(key))
	}
	var value string
	if json.Unmarshal(raw, &value) != nil {
		return "", fmt.Errorf("%s#%s can't be read", r.path, key)
	}
	switch {
	case value == "":
		return "", fmt.Errorf("%s#%s is an empty string in OpenBao, which is hardly meant: write the value, or take the reference out", r.path, key)
	case len(value) > largestValue:
		return "", fmt.Errorf("%s#%s has %d bytes, and %d are the most that is put in place of a reference", r.path, key, len(value), largestValue)
	case strings.Contains(value, opening):
		return "", fmt.Errorf("%s#%s holds a reference itself, and those are not followed: it could name what its writer may not read", r.path, key)
	}
	return value, nil
}

func (r *reading) instead(key string) string {
	if key == "ca_chain" {
		return "; ?format=pem_bundle puts the chain into #certificate"
	}
	return ""
}

// notText names what is no string.
func notText(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return ""
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// assemble puts the texts into copies of the objects.
func assemble(req Request, fields []field, filled map[int]string, readings map[question]*reading) Resolved {
	out := Resolved{Reads: map[Read]Version{}}
	copies := slices.Clone(req.Objects)
	missing := map[int]bool{}
	changed := map[int]bool{}
	for i, f := range fields {
		text, ok := filled[i]
		if !ok {
			missing[f.object] = true
			continue
		}
		if !changed[f.object] {
			copies[f.object].Unstructured = req.Objects[f.object].DeepCopy()
			changed[f.object] = true
		}
		f.put(copies[f.object].Object, text)
	}
	for i, o := range copies {
		if missing[i] {
			out.Unresolved = append(out.Unresolved, req.Objects[i])
		} else {
			out.Objects = append(out.Objects, o)
		}
	}
	out.Stale = note(readings, out.Reads, req)
	return out
}

// note writes down what was read, and says what is old.
func note(readings map[question]*reading, reads map[Read]Version, req Request) error {
	var old, unmade []string
	var why error
	for _, r := range readings {
		if r.stale != nil {
			old = append(old, r.path)
			if why == nil || r.stale.Error() < why.Error() {
				why = r.stale
			}
		}
		if r.unmade {
			unmade = append(unmade, r.path)
		}
		if r.values != nil || r.stale != nil || r.unmade {
			reads[r.read(req.Source, req.Stack)] = r.version
		}
	}
	if why != nil {
		why = fmt.Errorf("%s as read before, or not at all: %w", listed(old), why)
	}
	if len(unmade) == 0 {
		return why
	}
	made := fmt.Errorf("%s is made for whoever reads it: a plan doesn't", listed(unmade))
	if why == nil {
		return made
	}
	return fmt.Errorf("%w; %w", why, made)
}

// listed names some of many paths.
func listed(paths []string) string {
	slices.Sort(paths)
	paths = slices.Compact(paths)
	more := ""
	if left := len(paths) - mostSaid; left > 0 {
		paths, more = paths[:mostSaid], fmt.Sprintf(" and %d more", left)
	}
	return cutTo(strings.Join(paths, ", "), mostText/2) + more
}

func (r *reading) read(source, stack string) Read {
	query := r.params
	if r.question.version > 0 {
		query = fmt.Sprintf("version=%d", r.question.version)
	}
	return Read{source, stack, r.path, query, strings.Join(r.keys, "\n")}
}
