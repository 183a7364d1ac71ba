//go:build !linux

package action

import "syscall"

// dieWithParent does nothing: there is no such wish here.
func dieWithParent(*syscall.SysProcAttr) {}
