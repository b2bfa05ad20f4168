package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	goio "io"
	"strings"

	"github.com/owenrumney/go-sarif/v2/sarif"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/scan"
)

// printSARIF writes what forges read. An exception is a suppression there.
func printSARIF(w goio.Writer, verdicts []scan.Verdict) error {
	report, err := sarif.New(sarif.Version210)
	if err != nil {
		return err
	}
	run := sarif.NewRunWithInformationURI("Plumbline", "https://github.com/plumbline-dev/plumbline")
	for _, v := range verdicts {
		for _, f := range v.Findings {
			rule := run.AddRule(f.ID).WithName(cmp.Or(f.Title, f.ID)).WithDescription(cmp.Or(f.Title, f.ID))
			if f.URL != "" {
				rule.WithHelpURI(f.URL)
			}
			rule.WithTextHelp(cmp.Or(f.Fix, f.Title))
			rule.WithProperties(sarif.Properties{"security-severity": securitySeverity(f.Severity), "tags": []string{string(f.Kind), string(f.Severity)}})
			text := strings.TrimSpace(fmt.Sprintf("%s: %s", v.Stack, f.String()))
			location := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewSimpleArtifactLocation(cmp.Or(f.File, reconciler.StackFile))).
				WithRegion(sarif.NewSimpleRegion(1, 1))
			result := run.CreateResultForRule(f.ID).WithLevel(sarifLevel(f)).WithMessage(sarif.NewTextMessage(text))
			result.AddLocation(sarif.NewLocationWithPhysicalLocation(location))
			if f.Exception != nil {
				result.AddSuppression(sarif.NewSuppression("external").WithJustifcation(f.Exception.Statement))
			}
		}
	}
	report.AddRun(run)
	var raw bytes.Buffer
	if err := report.Write(&raw); err != nil {
		return err
	}
	var all any
	if err := json.Unmarshal(raw.Bytes(), &all); err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(withoutNulls(all))
}

// withoutNulls leaves out what the library writes as null, which no schema of SARIF admits.
func withoutNulls(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, child := range value {
			if value[key] = withoutNulls(child); child == nil {
				delete(value, key)
			}
		}
	case []any:
		for i := range value {
			value[i] = withoutNulls(value[i])
		}
	}
	return value
}

func sarifLevel(f scan.Finding) string {
	switch {
	case f.Denies:
		return "error"
	case f.Severity == scan.SeverityLow, f.Severity == scan.SeverityUnknown:
		return "note"
	}
	return "warning"
}

// securitySeverity is the score by which forges order: the middle of CVSS' ranges.
func securitySeverity(s scan.Severity) string {
	return map[scan.Severity]string{scan.SeverityCritical: "9.5", scan.SeverityHigh: "8.0", scan.SeverityMedium: "5.5", scan.SeverityLow: "2.0"}[s]
}
