// Package check looks over the files of a repository for secrets that aren't kept
// as they should be: in clear, sealed for others than the rules say, damaged.
//
// It has no key, asks nobody, and its findings never hold a value.
package check
