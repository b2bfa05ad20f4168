// Package templates holds the files that a person copies and edits: schemas for
// the editor, units and manifests for the installation, dashboards, alert rules
// and routes. Its tests write the dashboards, and hold every query to what the
// daemon records.
package templates

import "embed"

// FS holds what a command prints or installs, by the paths in this directory.
//
//go:embed schemas install
var FS embed.FS
