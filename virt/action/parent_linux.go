package action

import "syscall"

// dieWithParent lets a process be killed when the thread ends that started it.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
