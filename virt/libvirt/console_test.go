package libvirt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// terminals are the two ends of a terminal, the second of which is a console.
func terminals(t *testing.T) (guest *os.File, console *serial) {
	t.Helper()
	guest, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guest.Close() })
	if err := unix.IoctlSetPointerInt(int(guest.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(guest.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := plainTerminal(f); err != nil {
		t.Fatal(err)
	}
	return guest, &serial{f: f, stop: func() bool { return true }}
}

// Every byte goes through as it is, and when the guest ends so does its console,
// for readers and for writers; nor is anything read or written after Close.
func TestConsoleEnds(t *testing.T) {
	guest, console := terminals(t)
	const odd = "\x03\x04\r\n\x11\x13\x1a\x7f\xff"
	p := make([]byte, 64)
	if _, err := console.Write([]byte(odd)); err != nil {
		t.Fatal(err)
	}
	if n, err := guest.Read(p); err != nil || string(p[:n]) != odd {
		t.Errorf("typed %q, the guest reads %q, %v", odd, p[:n], err)
	}
	if _, err := guest.Write([]byte(odd)); err != nil {
		t.Fatal(err)
	}
	if n, err := console.Read(p); err != nil || string(p[:n]) != odd {
		t.Errorf("the guest says %q, it reads %q, %v", odd, p[:n], err)
	}
	if err := guest.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := console.Read(p); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("reading after the guest's end: %d bytes, %v", n, err)
	}
	if _, err := console.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("typing after the guest's end: %v", err)
	}
	for range 2 {
		if err := console.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := console.Read(p); !errors.Is(err, io.EOF) {
		t.Errorf("reading after Close: %v", err)
	}
	if _, err := console.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("typing after Close: %v", err)
	}
}
