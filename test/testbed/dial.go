package testbed

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dial connects to an address as seen from inside this host: its loopback, where QEMU listens for forwarded ports and for VNC, is not the
// machine's. The address is an IP address and a port.
func (d *Daemon) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread enters the host's network and ends with this goroutine: it is never unlocked, so no other goroutine runs on it.
		runtime.LockOSThread()
		conn, err := d.dialHere(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func (d *Daemon) dialHere(ctx context.Context, network, address string) (net.Conn, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", d.outside))
	if err != nil {
		return nil, fmt.Errorf("cannot open the network of host %s: %w", d.Name, err)
	}
	defer func() { _ = file.Close() }()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("cannot enter the network of host %s: %w", d.Name, err)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}
