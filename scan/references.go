package scan

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	dist "github.com/distribution/reference"
)

// Our own checks. docs/gate.md has a section for each.
const (
	idReference  = "PLB-0001" // an image reference that is none
	idNotPinned  = "PLB-0002" // no tag, or latest
	idNoDigest   = "PLB-0003"
	idRegistry   = "PLB-0004" // from where images may not come
	idMissing    = "PLB-0005" // an image that is not there
	idUnknown    = "PLB-0006" // an image of which nothing is known
	idCheck      = "PLB-0007" // a check that can't be evaluated
	idExceptions = "PLB-0008" // exceptions that can't be read
	idChecks     = "PLB-0009" // checks of the repository that can't be used
)

const docsURL = "https://github.com/plumbline-dev/plumbline/blob/main/docs/gate.md#"

// referenceBytes bounds an image reference.
const referenceBytes = 512

// reference is an image as an object names it.
type reference struct {
	text, container, field string
}

// references finds the images of an object: in the containers of whatever has some,
// in image volumes, and in spec.image of custom resources.
func references(object map[string]any) []reference {
	kind, _ := object["kind"].(string)
	if slices.Contains([]string{"ConfigMap", "Secret", "CustomResourceDefinition"}, kind) {
		return nil
	}
	var found []reference
	walkContainers(object, "", 0, &found)
	if spec, ok := object["spec"].(map[string]any); ok {
		if image, ok := spec["image"].(string); ok && image != "" {
			found = append(found, reference{image, "", "spec.image"})
		}
	}
	slices.SortFunc(found, func(a, b reference) int { return strings.Compare(a.field, b.field) })
	return found
}

func walkContainers(value any, field string, depth int, found *[]reference) {
	if depth > 50 {
		return
	}
	switch value := value.(type) {
	case map[string]any:
		for key, child := range value {
			at := strings.TrimPrefix(field+"."+key, ".")
			if list, ok := child.([]any); ok && strings.HasSuffix(strings.ToLower(key), "containers") {
				containers(list, at, found)
			}
			if image, ok := child.(map[string]any); ok && key == "image" && strings.Contains(field, "volumes[") {
				if text, ok := image["reference"].(string); ok {
					*found = append(*found, reference{text, "", at + ".reference"})
				}
			}
			walkContainers(child, at, depth+1, found)
		}
	case []any:
		for i, child := range value {
			walkContainers(child, field+"["+strconv.Itoa(i)+"]", depth+1, found)
		}
	}
}

func containers(list []any, field string, found *[]reference) {
	for i, item := range list {
		c, ok := item.(map[string]any)
		if !ok {
			continue
		}
		text, isText := c["image"].(string)
		name, _ := c["name"].(string)
		if _, there := c["image"]; there && (isText || c["image"] != nil) {
			*found = append(*found, reference{text, name, fmt.Sprintf("%s[%d].image", field, i)})
		}
	}
}

// parsed reads a reference, and refuses what nobody could mean.
func (r reference) parsed() (dist.Named, error) {
	if len(r.text) > referenceBytes {
		return nil, fmt.Errorf("%d characters: at most %d", len(r.text), referenceBytes)
	}
	if strings.ContainsFunc(r.text, func(c rune) bool { return c > unicode.MaxASCII || !unicode.IsPrint(c) || unicode.IsSpace(c) }) {
		return nil, errors.New("holds characters that no reference can have")
	}
	parsed, err := dist.ParseNormalizedNamed(r.text)
	if err != nil {
		return nil, errors.New("is not REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST")
	}
	return parsed, nil
}

// judge says what speaks against a reference itself.
func (g *Gate) judge(r reference, policy Policy, mask func(string) string) (found []Finding) {
	image := shown(mask(r.text)) // masked before it is cut: half a secret is none to the mask
	about := func(id string, severity Severity, title, message, fix string, fixed bool) {
		found = append(found, Finding{Kind: KindImage, ID: id, Severity: severity, Title: title, Message: message, Fix: fix,
			URL: docsURL + strings.ToLower(id), Container: r.container, Image: image, Field: r.field, fixed: fixed})
	}
	parsed, err := r.parsed()
	if err != nil {
		about(idReference, SeverityCritical, "Image reference is invalid", fmt.Sprintf("image %s: %v", image, err), "write it as REGISTRY/REPOSITORY:TAG@sha256:DIGEST", true)
		return found
	}
	repository := parsed.Name()
	for _, of := range []struct {
		Registries
		fixed bool
	}{{g.Operator.Registries, true}, {policy.Registries, false}} {
		if why := of.refuses(repository); why != "" {
			about(idRegistry, SeverityCritical, "Image comes from where it may not", fmt.Sprintf("image %s: %s %s", image, repository, why), "take the image from a registry that scan.registries allows", of.fixed)
		}
	}
	pin, fixed := g.Operator.pin(policy)
	_, byDigest := parsed.(dist.Digested)
	tag := ""
	if tagged, ok := dist.TagNameOnly(parsed).(dist.Tagged); ok {
		tag = tagged.Tag()
	}
	switch {
	case pin == PinDigest && !byDigest:
		about(idNoDigest, SeverityCritical, "Image is not pinned to a digest", fmt.Sprintf("image %s has no digest", image), "add @sha256:DIGEST to the reference", fixed)
	case pin == PinTag && !byDigest && tag == "latest":
		about(idNotPinned, SeverityCritical, "Image is not pinned", fmt.Sprintf("image %s: what it is depends on when it is pulled, not on Git", image), "name a version, or a digest", fixed)
	}
	return found
}

// shown is a reference as it may stand in a text.
func shown(text string) string {
	quoted := strconv.QuoteToASCII(cut(text, 200))
	if plain := quoted[1 : len(quoted)-1]; plain == text {
		return text
	}
	return quoted
}
