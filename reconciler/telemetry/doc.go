// Package telemetry turns what the engine does into spans, metrics and log
// records, each by its name: every name that the project records is in this
// package, once, and nothing else touches an instrument.
//
// It promises that its verbs never fail and never block, that a nil Recorder does
// nothing, that no series depends on anything but stacks, sources, kinds and sets
// of bounded size, and that no error's text leaves the process unless somebody
// who knows the secrets masked it.
//
// It uses the OpenTelemetry API alone. What is exported, and where to, is decided
// by whoever gives it its providers.
package telemetry
