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
//
// files.go is the tree under which sealed files are open, sops.go with formats.go
// and trees.go opens one, keys.go, age.go and pgp.go have the keys. resolve.go is
// the road of references: fields.go finds them, reference.go reads them, grant.go
// lets them pass, engines.go asks, kept.go and lease.go keep, fill.go puts values in
// place, moved.go looks what has moved; openbao.go and bao*.go are the client.
// redactor.go and forms.go know what was opened, hash.go and checksum.go stand for it.
package secrets
