// Package scan judges the rendered objects of a stack before anything is applied.
//
// It turns objects into findings (Trivy's misconfiguration checks, its rules for
// exposed secrets, where images come from and what is known of them, checks of a
// repository's own) and findings, with a policy and its exceptions, into a verdict.
//
// It promises:
//
//   - It reads references to secrets, never what they lead to. Of a Secret's data
//     nothing is looked at; what sealed files were opened to is masked in all it says.
//   - What can't be judged is denied, and says why: a check that crashes, an exceptions
//     file that can't be read, a check of a repository that loops.
//   - An object that was judged before is not judged again.
//   - Nobody waits for a registry: what is not known yet of an image is pending.
package scan
