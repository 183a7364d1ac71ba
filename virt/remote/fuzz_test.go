package remote

import (
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// FuzzAddress: whatever a hypervisor's address is, what is made of it is the URL
// of a host and nothing else, and the token goes nowhere in the clear.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"", "h1", "10.0.0.1:80", "::1", "[::1]:80", "https://h/x", "http://h", "http://127.0.0.1", "h@x", "h/..", "https://u@h", "h\n", "https://h:99999", "http://localhost.evil"} {
		f.Add("h1", s)
	}
	cfg := Defaults()
	cfg.Token = component.NewSecret("geheim")
	d, err := Open(f.Context(), cfg, virt.DriverDeps{Name: "x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, address string) {
		u, err := d.address(virt.Host{ID: id, Address: address})
		if err != nil {
			if len(err.Error()) > 2000 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("the error has %d bytes, or control characters: %.200q", len(err.Error()), err)
			}
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != u.Host || again.User != nil || again.RawQuery != "" || again.Fragment != "" || u.Host == "" {
			t.Errorf("%q became %q, which is read as %+v (%v)", address, u, again, err)
		}
		if u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
			t.Errorf("the token would go to %s", u)
		}
		if _, _, err := d.agent(virt.Host{ID: id, Address: address}); err != nil {
			t.Errorf("the client does not take %s: %v", u, err)
		}
	})
}

// FuzzListing: whatever an agent lists, what is passed on is bounded, ordered,
// and each guest once.
func FuzzListing(f *testing.F) {
	id := uuid.NewString()
	for _, s := range []string{`{}`, `{"complete":true,"guests":[{"id":"` + id + `","name":"a\u0000","state":"Shutoff","cpu":-1,"memory":1e99}]}`,
		`{"complete":true,"guests":[{"id":"` + id + `"},{"id":"` + strings.ToUpper(id) + `"},null]}`, `{"capacity":{"cpu":-1}}`, `{"problems":["\u001b"]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s mistify.Status
		if mistify.Decode(data, &s) != nil {
			return
		}
		l := listingOf(s)
		if l.Complete && (!s.Complete || len(l.Guests) != len(s.Guests)) {
			t.Errorf("%d guests of %d are called complete", len(l.Guests), len(s.Guests))
		}
		for i, g := range l.Guests {
			if again, err := mistify.ParseGuestID(g.UUID); err != nil || again != g.UUID || i > 0 && l.Guests[i-1].UUID >= g.UUID {
				t.Errorf("the guest %d is %q", i, g.UUID)
			}
			if g.Name == "" || len(g.Name) > maxName || strings.ContainsFunc(g.Name, unicode.IsControl) || g.CPU < 0 || g.Memory < 0 || g.State == "" {
				t.Errorf("the guest %d is %+v", i, g)
			}
		}
		if l.Capacity.CPU < 0 || l.Capacity.Memory < 0 || l.Capacity.Disk < 0 || strings.ContainsFunc(problems(s), unicode.IsControl) {
			t.Errorf("the capacity is %+v, the problems are %q", l.Capacity, problems(s))
		}
	})
}
