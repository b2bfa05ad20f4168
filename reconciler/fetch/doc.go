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
//   - Credentials come from files, are read at each use, never follow a redirect to another origin, and are in no error.
//   - Git is spoken in process: no git binary, no ssh binary, no agent, no configuration of the user who runs it.
//
// # Rewritten history
//
// A ref that now points to an ancestor of the accepted commit was rolled back: a mistake, or a replay of old,
// vulnerable manifests by whoever holds the remote. It is refused ([ErrRollback]) unless Source.AllowRewrite is set.
// A ref whose history diverged from the accepted commit (commit --amend, rebase, then push --force) is accepted: that is
// how many people work on their own repositories, and the new tip must still pass Source.Verify. The same holds for
// moved tags and for semver ranges whose highest tag vanished. Changing Source.Ref starts over: there is no rule between
// a commit of one branch and one of another.
//
// # Signatures
//
// With Source.Verify the commit itself, not its parents, must be signed by one of the keys; for an annotated tag the
// signature of the tag or of the commit suffices. An accepted commit is verified again each time it is handed out, so
// that a key which is removed from the file, expires or is revoked loses its power at the next fetch. As in Git, the
// validity period of an SSH key is held against the committer time, the expiry of a GPG key against the present.
package fetch
