// Package checks judges one Kubernetes object by Trivy's misconfiguration
// checks, and by checks in Rego that a repository brings.
//
// It promises:
//
//   - No network, no environment, no clock: what a check says depends on the object
//     alone, so that it can be remembered.
//   - A check that crashes, loops or can't be understood is told as such ([Found.Err]);
//     it never passes for a check that found nothing.
//   - A [Set] is compiled once, and may be used by any number of goroutines.
package checks
