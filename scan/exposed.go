package scan

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/aquasecurity/trivy/pkg/fanal/secret"
	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"
)

// exposed looks for what Trivy knows as secrets in all of an object but a Secret's data.
func exposed(scanner *secret.Scanner, object map[string]any) ([]Finding, error) {
	text, err := sigsyaml.Marshal(withoutData(object))
	if err != nil {
		return nil, err
	}
	matches := scanner.Scan(secret.ScanArgs{FilePath: "object.yaml", Content: bytes.NewReader(text)}).Findings
	if len(matches) == 0 {
		return nil, nil
	}
	fields := fieldsOf(text)
	var found []Finding
	for _, m := range matches {
		field := ""
		for line := m.StartLine; line > 0 && field == ""; line-- {
			field = fields[line]
		}
		found = append(found, Finding{Kind: KindSecret, ID: m.RuleID, Severity: Severity(m.Severity), Title: m.Title,
			Message: fmt.Sprintf("what looks like a secret (%s) stands in the clear", m.Title), Field: field,
			Fix: "put it into a Secret that is sealed with SOPS, or refer to OpenBao; then make it worthless where it came from",
			URL: docsURL + "exposed-secrets"})
	}
	return found, nil
}

// withoutData is an object without what Secrets are there to hold.
func withoutData(object map[string]any) map[string]any {
	if object["kind"] != "Secret" {
		return object
	}
	out := map[string]any{}
	for key, value := range object {
		if key != "data" && key != "stringData" {
			out[key] = value
		}
	}
	return out
}

// fieldsOf are the fields of a YAML text by the line on which they begin.
func fieldsOf(text []byte) map[int]string {
	fields := map[int]string{}
	var root yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&root); err == nil {
		note(&root, "", fields)
	}
	return fields
}

func note(n *yaml.Node, field string, fields map[int]string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := strings.TrimPrefix(field+"."+n.Content[i].Value, ".")
			fields[n.Content[i].Line] = at
			note(n.Content[i+1], at, fields)
		}
	case yaml.SequenceNode:
		for i, child := range n.Content {
			at := field + "[" + strconv.Itoa(i) + "]"
			fields[child.Line] = at
			note(child, at, fields)
		}
	case yaml.DocumentNode:
		for _, child := range n.Content {
			note(child, field, fields)
		}
	case yaml.ScalarNode, yaml.AliasNode:
	}
}
