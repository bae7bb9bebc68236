//go:build unix && !linux

package testcluster

import "syscall"

// sysProcAttr puts a node into a process group of its own, so that a Ctrl-C
// meant for its parent does not reach it.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
