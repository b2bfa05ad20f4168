//go:build unix && !linux

package lab

import (
	"os/exec"
	"syscall"
)

// detach puts a child into a process group of its own, so that Ctrl-C reaches
// whoever runs it, who then stops the child in its own time. Only Linux can tell
// a child of its parent's death.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
