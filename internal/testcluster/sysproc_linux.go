package testcluster

import "syscall"

// sysProcAttr puts a node into a process group of its own, so that a Ctrl-C
// meant for its parent does not reach it, and has the kernel kill it when the
// thread that started it ends.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
