// Package images tells what is known of container images: whether they are in their
// registries, for the platforms of a cluster, and which of their packages are known
// to be vulnerable.
//
// It promises:
//
//   - Nobody waits: what is not known yet is being asked for, and a channel closes when
//     that is over.
//   - What can't be told is said to be unknown, and why. It is never taken for good.
//   - What is in an image is read once, and kept on disk by its digest: a new database, or
//     a new process, reads no image again.
//   - Images are hostile: what is read of them is bounded, in bytes, in entries, and in time.
//   - Registries are, too: none leads to loopback, link-local addresses or plain HTTP that
//     the operator has not named, and what they say is cut and stripped of URLs.
package images
