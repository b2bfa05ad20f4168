// Package secrets opens what is sealed in Git: files that SOPS encrypted, and
// references to values that OpenBao keeps.
//
// It promises:
//
//   - What was opened is known to the run's [Redactor], which holds no plaintext
//     itself, before anybody else sees it.
//   - Plaintext is in memory alone, and only for the run; what is kept longer is
//     sealed with a key that this process made up.
//   - A reference that can't be resolved is never replaced by anything else.
//   - A source reads only the paths that it was granted; a file's metadata never
//     chooses whom to talk to.
package secrets
