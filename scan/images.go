package scan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/scan/images"
)

// Images tells what is known of images.
type Images interface {
	// Look answers at once: with a report, or with a channel that is closed when there is one.
	// anew has it not be content with a report that something is missing or unknown.
	Look(reference string, anew bool) (images.Report, <-chan struct{})
}

// ImagePolicy is what the operator says of what is known of images.
type ImagePolicy struct {
	DenyUnknown   bool // an image of which something can't be found out is a reason to deny
	IgnoreUnfixed bool // vulnerabilities that no version mends are no findings
}

// imageBytes bounds what is said of an image.
const imageBytes = 500

// imagesMost bounds the different images of a stack.
const imagesMost = 500

// lookUp asks what is known of the images. Each is asked about once, and each of its
// vulnerabilities is told once, of where it is named first. Of an image from
// where none may come, nobody is asked.
func (g *Gate) lookUp(r Request) (found []Finding, pending []string, waits []<-chan struct{}) {
	if g.Images == nil {
		return nil, nil, nil
	}
	asked := map[string][]Finding{}
	for _, o := range r.Objects {
		for _, ref := range references(o.Object) {
			parsed, err := ref.parsed()
			if err != nil || g.Operator.Registries.refuses(parsed.Name()) != "" {
				continue
			}
			against, known := asked[ref.text]
			if !known && len(asked) == imagesMost {
				many := broken(idUnknown, "Too many images", fmt.Errorf("the stack has more than %d different images", imagesMost), "make several stacks of it")
				many.fixed = true
				return []Finding{many}, nil, nil
			}
			if !known {
				report, wait := g.Images.Look(ref.text, r.Anew)
				if wait != nil {
					pending, waits = append(pending, shown(r.mask(ref.text))), append(waits, wait)
				} else {
					against = g.Operator.Images.against(report, shown(r.mask(ref.text)))
				}
				asked[ref.text] = slices.DeleteFunc(slices.Clone(against), func(f Finding) bool { return f.Kind == KindVulnerability })
			}
			mine := slices.Clone(against)
			for i := range mine {
				mine[i].Container, mine[i].Field, mine[i].Image = ref.container, ref.field, shown(r.mask(ref.text))
			}
			mine = r.about(o, mine)
			for i := range mine {
				mine[i].Message = cut(mine[i].Message, imageBytes) // after it was masked: half a secret is none to the mask
			}
			found = append(found, mine...)
		}
	}
	slices.Sort(pending)
	return found, slices.Compact(pending), waits
}

// against is what speaks against an image, by what is known of it.
func (p ImagePolicy) against(report images.Report, image string) (found []Finding) {
	about := func(id string, severity Severity, title, message, fix string, fixed bool) {
		found = append(found, Finding{Kind: KindImage, ID: id, Severity: severity, Title: title, Message: message, Fix: fix,
			URL: docsURL + strings.ToLower(id), fixed: fixed, retry: report.Retry})
	}
	if report.Missing != "" {
		about(idMissing, SeverityCritical, "Image is missing", fmt.Sprintf("image %s: %s", image, report.Missing), "push it, or name one that is there", false)
	}
	if report.Unknown != "" {
		severity, fix := SeverityUnknown, "mend what it says"
		if p.DenyUnknown {
			severity, fix = SeverityCritical, "mend what it says; it is looked at again by itself"
		}
		about(idUnknown, severity, "Image could not be looked at", fmt.Sprintf("image %s: %s", image, report.Unknown), fix, true)
	}
	for _, v := range report.Vulnerabilities {
		if v.Fixed == "" && p.IgnoreUnfixed {
			continue
		}
		found = append(found, vulnerability(v))
	}
	return found
}

func vulnerability(v images.Vulnerability) Finding {
	f := Finding{Kind: KindVulnerability, ID: shown(v.ID), Severity: Severity(v.Severity), Title: shown(v.Title), Package: shown(v.Package + " " + v.Version), URL: v.URL, purl: v.PURL, path: v.Path}
	if f.Severity.Validate() != nil || f.Severity == "" || f.Severity == SeverityNone {
		f.Severity = SeverityUnknown
	}
	f.Message = fmt.Sprintf("%s: %s", f.Package, f.Title)
	f.Fix = "no version mends it yet: use an image without it, or except it for a while"
	if v.Fixed != "" {
		f.Fix = "use an image with " + shown(v.Package+" "+v.Fixed)
	}
	return f
}

// Known waits until all images are known that the verdict waits for.
func (v Verdict) Known(ctx context.Context) error {
	for _, wait := range v.Waits {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// sooner is the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
