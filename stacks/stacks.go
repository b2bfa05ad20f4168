// Package stacks is the observability pipeline that Plumbline ships: five stacks of plain Kustomize, from what
// takes telemetry in to what shows it and raises the alarm. It turns nothing into anything; it carries files.
//
// Every stack renders as it is, needs no secret to become Ready, and runs under the restricted Pod Security
// Standard in a namespace that denies all traffic but what each stack opens. The tests hold every pod to a table of
// hardening rules and give every configuration to the program that will read it.
package stacks

import "embed"

// FS holds the stacks as LAYER/NAME/stack.yaml with their manifests beside it.
//
//go:embed ingestion storage alerting
//go:embed ingestion/*/.trivyignore.yaml storage/*/.trivyignore.yaml alerting/*/.trivyignore.yaml
var FS embed.FS
