// Package templates holds the files that a person copies and edits: schemas for
// the editor, units and manifests for the installation.
package templates

import "embed"

// FS holds the templates, by their paths in this directory.
//
//go:embed schemas install
var FS embed.FS
