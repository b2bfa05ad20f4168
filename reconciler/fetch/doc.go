// Package fetch turns a Source (a Git repository and the ref that is followed) into a Snapshot (one commit of it,
// readable as an io/fs.FS).
//
// It keeps one bare full-history mirror per source below Mirrors.Dir and reads trees and blobs straight from its packs:
// there is no checkout, so nothing in a repository can become a link, a device or a path outside of it. A fetch is a ref
// listing; packs travel only when the ref moved, and then only what is missing.
//
// Promises:
//
//   - What was accepted stays in force. The last accepted commit is recorded in the mirror; a commit that is unsigned
//     although signatures are required, or a branch that was rolled back, is refused with an error, and [Mirrors.Last]
//     keeps answering with the good one, after restarts too.
//   - Nothing is lost by kill -9 or a power cut: mirrors are created and packs are written under temporary names, synced,
//     then renamed. A mirror that is damaged nevertheless is noticed when it is opened and cloned anew.
//   - Nothing from the network is trusted: responses, objects, trees and links are bounded while they are read, names
//     are checked, object ids are computed here and never taken over.
//   - A remote cannot send this process to addresses of its machine or its link, such as metadata services, by redirects.
//   - Credentials come from files, are read at each use, never follow a redirect to another origin, and are in no error.
//   - Git is spoken in process: no git binary, no ssh binary, no agent, no configuration of the user who runs it.
//
// # Rewritten history
//
// A ref that now points to an ancestor of the accepted commit was rolled back: a mistake, or a replay of old,
// vulnerable manifests by whoever holds the remote. It is refused ([ErrRollback]) unless Source.AllowRewrite is set.
// A ref whose history diverged from the accepted commit (commit --amend, rebase, then push --force) is accepted: that is
// how many people work on their own repositories. The same holds for moved tags and for semver ranges whose highest tag
// vanished. Changing Source.Ref starts over: there is no rule between a commit of one branch and one of another.
//
// With Source.Verify a diverged history is refused as a rollback is: whoever holds the remote but no key has old signed
// commits of other branches to offer, and can vary what the signature of an old one does not cover, so that it looks
// like a new one. That goes for tags, too: a range that leads from the last tag of a release branch to the first of the
// next one needs a merge, or AllowRewrite.
//
// The rules hold as well when a mirror is cloned anew, as far as the old one can still be read; where it cannot, a clone
// without the accepted commit is refused with Source.Verify, and accepted without.
//
// # Signatures
//
// With Source.Verify the commit itself, not its parents, must be signed by one of the keys; for an annotated tag the
// signature of the tag or of the commit suffices. An accepted commit is verified again each time it is handed out, so
// that a key which is removed from the file, expires or is revoked loses its power at the next fetch. As in Git, the
// validity period of an SSH key is held against the committer time, the expiry of a GPG key against the present.
package fetch
