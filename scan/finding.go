package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity is how bad a finding is, and from where on a policy denies.
type Severity string

// Severities, worst first. SeverityNone denies nothing.
const (
	SeverityCritical Severity = "CRITICAL"
	SeverityHigh     Severity = "HIGH"
	SeverityMedium   Severity = "MEDIUM"
	SeverityLow      Severity = "LOW"
	SeverityUnknown  Severity = "UNKNOWN"
	SeverityNone     Severity = "NONE"
)

// Severities lists those that a finding can have, worst first.
func Severities() []Severity {
	return []Severity{SeverityCritical, SeverityHigh, SeverityMedium, SeverityLow, SeverityUnknown}
}

// rank orders severities: the worse, the higher. As a threshold, NONE is above all.
func (s Severity) rank() int {
	switch s {
	case SeverityNone:
		return 5
	case SeverityCritical:
		return 4
	case SeverityHigh:
		return 3
	case SeverityMedium:
		return 2
	case SeverityLow:
		return 1
	}
	return 0
}

// Validate refuses what is no threshold. Empty is one: the default.
func (s Severity) Validate() error {
	if s == "" || (s.rank() > 0 && s != SeverityUnknown) {
		return nil
	}
	return fmt.Errorf("%q: want CRITICAL, HIGH, MEDIUM, LOW or NONE", string(s))
}

// Kind is what a finding is about.
type Kind string

// Kinds of findings.
const (
	KindMisconfiguration Kind = "misconfiguration"
	KindSecret           Kind = "secret"
	KindVulnerability    Kind = "vulnerability"
	KindImage            Kind = "image" // its reference, and where it comes from
	KindGate             Kind = "gate"  // the gate itself can't tell
)

// Finding is what speaks against an object. Every text is masked.
type Finding struct {
	Kind      Kind     `json:"kind"`
	ID        string   `json:"id"`
	Severity  Severity `json:"severity"`
	Title     string   `json:"title"`
	Message   string   `json:"message,omitempty"`
	Object    string   `json:"object,omitempty"` // Deployment.apps o11y/grafana; empty: the stack as a whole
	Container string   `json:"container,omitempty"`
	Image     string   `json:"image,omitempty"`
	Package   string   `json:"package,omitempty"` // of a vulnerability, with its version
	File      string   `json:"file,omitempty"`    // of the source
	Field     string   `json:"field,omitempty"`   // of the rendered object
	Fix       string   `json:"fix,omitempty"`
	URL       string   `json:"url,omitempty"`
	// Denies is true where the finding is a reason to deny.
	Denies bool `json:"denies"`
	// Exception lets it pass; nil: none does.
	Exception *Exception `json:"exception,omitempty"`

	aliases []string
	retry   time.Time // when it may be otherwise by itself
	purl    string
	path    string // within the image
	fixed   bool   // by the operator: no exception of a repository counts
	final   bool   // no exception counts at all
}

// Exception lets a finding pass.
type Exception struct {
	ID        string    `json:"id"`
	Statement string    `json:"statement"`
	Expires   time.Time `json:"expires,omitzero"` // zero: never
	File      string    `json:"file"`             // with its line
}

// String is the finding in a line.
func (f Finding) String() string {
	parts := []string{f.ID, string(f.Severity)}
	if f.Object != "" {
		parts = append(parts, f.Object)
	}
	if f.Container != "" {
		parts = append(parts, "container "+f.Container)
	}
	text := strings.Join(parts, " ") + ": " + cmp.Or(f.Message, f.Title)
	var where []string
	for _, w := range []string{f.File, f.Field} {
		if w != "" {
			where = append(where, w)
		}
	}
	if len(where) > 0 {
		text += " (" + strings.Join(where, ", ") + ")"
	}
	return text
}

// compareFindings puts first what denies, and then what is worst.
func compareFindings(a, b Finding) int {
	denies := func(f Finding) int {
		if f.Denies {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(denies(a), denies(b)), cmp.Compare(b.Severity.rank(), a.Severity.rank()), cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.Object, b.Object), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Field, b.Field),
		cmp.Compare(a.Image, b.Image), cmp.Compare(a.Package, b.Package), cmp.Compare(a.Message, b.Message))
}

// Verdict is what the gate says of a stack.
type Verdict struct {
	Stack    string
	FailOn   Severity
	Findings []Finding // what denies first, then by severity
	// Pending are images that are looked at now: until that is done, nothing is decided.
	Pending []string
	// Waits are closed when they are known, and it is worth asking again.
	Waits []<-chan struct{} `json:"-"`
	// Exceptions are those that let something pass.
	Exceptions []Exception
	// Warnings are about exceptions that don't count, or not for long.
	Warnings []string
	// Next is when the verdict may be another although nothing changed; zero: never.
	Next time.Time
}

// Denied are the findings that are a reason to deny.
func (v Verdict) Denied() []Finding {
	n := slices.IndexFunc(v.Findings, func(f Finding) bool { return !f.Denies })
	if n < 0 {
		return v.Findings
	}
	return v.Findings[:n]
}

// Counts is how many findings there are of each severity; those that an exception
// lets pass are not among them.
func (v Verdict) Counts() map[Severity]int {
	counts := map[Severity]int{}
	for _, f := range v.Findings {
		if f.Exception == nil {
			counts[f.Severity]++
		}
	}
	return counts
}

// Summary counts the findings: "1 CRITICAL, 3 HIGH".
func (v Verdict) Summary() string {
	counts, parts := v.Counts(), []string{}
	for _, s := range Severities() {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(parts) == 0 {
		return "no findings"
	}
	return strings.Join(parts, ", ")
}

// Err is a *DeniedError, or nil where nothing denies.
func (v Verdict) Err() error {
	if denied := v.Denied(); len(denied) > 0 {
		return &DeniedError{v}
	}
	return nil
}

// DeniedError says what the gate denies. Its text is bounded.
type DeniedError struct{ Verdict Verdict }

// shownFindings bounds what is said of many findings.
const shownFindings = 10

// Error names the findings that deny, the worst first. The first line can stand alone.
func (e *DeniedError) Error() string {
	denied := e.Verdict.Denied()
	shown := denied[:min(len(denied), shownFindings)]
	lines := []string{"the gate denies it: " + idsOf(denied) + ": " + howMany(len(denied), e.Verdict.FailOn)}
	for _, f := range shown {
		line := cut(f.String(), 300)
		if f.Fix != "" {
			line += "; to do: " + cut(f.Fix, 200)
		}
		lines = append(lines, line)
	}
	if more := len(denied) - len(shown); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more: plumbline scan lists all", more))
	}
	return strings.Join(lines, "\n")
}

// idsOf names the first ids: "PLB-0002, KSV-0017, KSV-0118 and 2 more".
func idsOf(findings []Finding) string {
	const most = 3
	var ids []string
	for _, f := range findings {
		if !slices.Contains(ids, f.ID) {
			ids = append(ids, f.ID)
		}
	}
	if more := len(ids) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), more)
	}
	return strings.Join(ids, ", ")
}

func howMany(n int, threshold Severity) string {
	switch {
	case threshold == SeverityNone && n == 1:
		return "plumbline.yaml fixes what a finding is against"
	case threshold == SeverityNone:
		return fmt.Sprintf("plumbline.yaml fixes what %d findings are against", n)
	case n == 1:
		return fmt.Sprintf("a finding is %s or worse", threshold)
	}
	return fmt.Sprintf("%d findings are %s or worse", n, threshold)
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
