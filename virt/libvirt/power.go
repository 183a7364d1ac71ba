package libvirt

import (
	"context"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

// Power starts or stops a guest.
func (d *Driver) Power(ctx context.Context, h virt.Host, g virt.Guest, op virt.PowerOp) error {
	f, ok := map[virt.PowerOp]func(*conn, golibvirt.Domain) error{
		virt.PowerStart: start, virt.PowerStop: stop, virt.PowerShutdown: shutdown, virt.PowerReboot: reboot,
	}[op]
	if !ok {
		return problem(g, virt.ErrInvalid, "%.32q is no power operation", string(op))
	}
	return d.withDomain(ctx, h, g, changes, string(op), func(_ context.Context, c *conn, dom golibvirt.Domain) error { return f(c, dom) })
}

// Suspend holds a guest.
func (d *Driver) Suspend(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.withDomain(ctx, h, g, changes, "suspend", func(_ context.Context, c *conn, dom golibvirt.Domain) error {
		return unless(c, dom, c.DomainSuspend(dom), virt.Paused)
	})
}

// Resume lets it go on.
func (d *Driver) Resume(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.withDomain(ctx, h, g, changes, "resume", func(_ context.Context, c *conn, dom golibvirt.Domain) error {
		return unless(c, dom, c.DomainResume(dom), virt.Running)
	})
}

func start(c *conn, dom golibvirt.Domain) error {
	_, err := c.DomainCreateWithFlags(dom, 0)
	if err == nil {
		return nil
	}
	state, problem := stateOf(c, dom)
	switch {
	case problem != nil:
		return translate(err)
	case state == virt.Running:
		return nil
	case state == virt.Paused:
		return fmt.Errorf("%w, but it is suspended: resume it", virt.ErrBusy)
	}
	return translate(err)
}

func stop(c *conn, dom golibvirt.Domain) error {
	return unless(c, dom, c.DomainDestroyFlags(dom, golibvirt.DomainDestroyDefault), virt.Stopped, virt.Crashed)
}

func shutdown(c *conn, dom golibvirt.Domain) error {
	return unless(c, dom, c.DomainShutdownFlags(dom, golibvirt.DomainShutdownDefault), virt.Stopped, virt.Crashed)
}

func reboot(c *conn, dom golibvirt.Domain) error {
	return translate(c.DomainReboot(dom, golibvirt.DomainRebootDefault))
}

// unless drops an error that says only that the guest is in the state that was
// wanted.
func unless(c *conn, dom golibvirt.Domain, err error, wanted ...virt.State) error {
	if err == nil {
		return nil
	}
	err = translate(err)
	if isUnreachable(err) {
		return err
	}
	state, problem := stateOf(c, dom)
	if problem != nil {
		return err
	}
	for _, w := range wanted {
		if state == w {
			return nil
		}
	}
	return err
}
