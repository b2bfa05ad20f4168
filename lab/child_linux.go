package lab

import (
	"os/exec"
	"syscall"
)

// detach puts a child into a process group of its own, so that Ctrl-C reaches
// whoever runs it, who then stops the child in its own time; and lets the kernel
// stop it when its parent dies, even by kill -9.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
