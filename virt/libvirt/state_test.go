package libvirt

import (
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

func TestStateFrom(t *testing.T) {
	for _, c := range []struct {
		what   string
		state  golibvirt.DomainState
		reason int64
		want   virt.State
	}{
		{"it runs", golibvirt.DomainRunning, 1, virt.Running},
		{"a person holds it", golibvirt.DomainPaused, int64(golibvirt.DomainPausedUser), virt.Paused},
		{"it is about to start", golibvirt.DomainPaused, int64(golibvirt.DomainPausedStartingUp), virt.Running},
		{"it is about to be off", golibvirt.DomainPaused, int64(golibvirt.DomainPausedShuttingDown), virt.Running},
		{"it crashed, and is kept", golibvirt.DomainPaused, int64(golibvirt.DomainPausedCrashed), virt.Crashed},
		{"it is off", golibvirt.DomainShutoff, int64(golibvirt.DomainShutoffDestroyed), virt.Stopped},
		{"it crashed", golibvirt.DomainShutoff, int64(golibvirt.DomainShutoffCrashed), virt.Crashed},
		{"nobody knows", golibvirt.DomainNostate, 0, virt.Unknown},
	} {
		if got := stateFrom(int64(c.state), c.reason); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}
