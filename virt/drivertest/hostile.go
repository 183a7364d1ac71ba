package drivertest

import (
	"context"
	"fmt"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// HostileNames are words that people and attackers type, none of which is a
// name.
func HostileNames() []string {
	return []string{
		"", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "-o", "--help", `"/><disk`, "<domain>", "a&b", "a b", " a", "a\n", "a\nb",
		"a\r\nb", "a\x00b", "\x1b[31m", "a\u202eb", "a\u200bb", "\ufeffa", "é", "a;reboot", "$(reboot)", "`reboot`", "a|b", "a,b=c", "a'b", "%2e%2e", `a\b`,
		"\xff\xfe", strings.Repeat("a", 10<<10),
	}
}

func hostile(b *bench) {
	before := len(b.status(b.h).Guests)
	for _, name := range HostileNames() {
		g := b.Guest(b.T)
		for _, c := range []struct {
			field  string
			change func(*virt.Guest)
		}{
			{"name", func(g *virt.Guest) { g.Name = name }},
			{"UUID", func(g *virt.Guest) { g.UUID, g.Definition.UUID = name, name }},
			{"volume", func(g *virt.Guest) {
				g.Definition.Disks = append([]virt.Disk(nil), g.Definition.Disks...)
				for i := range g.Definition.Disks {
					g.Definition.Disks[i].Volume = name
				}
			}},
		} {
			if c.field == "volume" && (name == "" || len(g.Definition.Disks) == 0 || g.Definition.Disks[0].Source != "") {
				continue
			}
			bad := g
			c.change(&bad)
			for _, v := range b.making() {
				err := b.call(func(ctx context.Context) error { return v.do(ctx, b.h, bad) })
				b.is(fmt.Sprintf("%s with the %s %.40q", v.name, c.field, name), err, virt.ErrInvalid)
				if err != nil && len(err.Error()) > 1000 {
					b.Errorf("%s with a hostile %s: the error has %d bytes", v.name, c.field, len(err.Error()))
				}
				if err != nil && strings.ContainsAny(err.Error(), "\x00\x1b\r\u202e\u200b") {
					b.Errorf("%s with the %s %.40q: the error repeats control characters: %q", v.name, c.field, name, err)
				}
			}
			if c.field == "UUID" {
				for _, v := range append(b.verbs(), verb{"deprovision", b.d.Deprovision}) {
					b.fails(fmt.Sprintf("%s with the UUID %.40q", v.name, name), b.call(func(ctx context.Context) error { return v.do(ctx, b.h, bad) }))
				}
			}
			if c.field == "volume" {
				b.fails(fmt.Sprintf("deprovision with the volume %.40q", name), b.deprovision(bad))
			}
		}
	}
	if after := len(b.status(b.h).Guests); after != before {
		b.Errorf("%d guests before and %d after refused calls", before, after)
	}
}
