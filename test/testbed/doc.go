// Package testbed starts the real parts that tests run against: private libvirt daemons with real QEMU guests in software emulation.
//
//	d := testbed.Libvirt(t)                        // a libvirtd nobody else uses; gone when the test ends
//	kernel, initrd := testbed.Guest(t)             // boots in about four seconds, says "vagoth-guest: up" on ttyS0
//	d.Virsh(t, "define", d.File("web1.xml"))
//	testbed.WaitForText(t, log, testbed.GuestUp, time.Minute)
//	k := testbed.NewDocker(t)                      // a dockerd nobody else uses, with an image, and a registry beside it
//
// # What a Daemon is
//
// A private host in the small: mount, network, process, host-name and IPC namespaces of its own, in which the folders that libvirt uses
// (/run, /var/lib/libvirt, /var/cache/libvirt, /var/log/libvirt, /etc/libvirt) are folders of the test. The rest of the file tree is the
// machine's, so a path under t.TempDir means the same inside and outside, and so does the unix socket of [Daemon.Socket]. The loopback of
// a Daemon is its own: a port that a guest forwards is reached with [Daemon.Dial].
//
// A second guest has the real OpenZFS, which a machine that loads no modules cannot: [ZFS] runs a test in there.
//
// # Why
//
// A machine's own libvirtd must never see a test's guests, nor a test the machine's; and alarms about one VM on two hosts need two hosts.
// The process namespace is what makes cleaning up certain: its first process reads from a pipe that only the test process holds, so when
// the test ends, panics or is killed, the kernel kills every daemon and every QEMU in there, and nothing has to be hunted by name.
package testbed
