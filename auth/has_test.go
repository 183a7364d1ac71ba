package auth

import (
	"testing"
	"time"
)

// Whether there is a token to show follows the file and the clock, and
// certificates are none.
func TestHasTokens(t *testing.T) {
	b := newBox(t)
	other := b.open()
	want := func(what string, want bool) {
		t.Helper()
		if got := other.HasTokens(); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	want("nothing", false)
	if _, err := b.Allow(t.Context(), Spec{Name: "disk1", Role: Worker}); err != nil {
		t.Fatal(err)
	}
	want("a certificate", false)
	made, _ := b.create("ci", Reader, b.clock.at.Add(time.Hour))
	want("a token", true)
	b.clock.at = b.clock.at.Add(2 * time.Hour)
	want("a token that is over", false)
	b.create("ops", Admin, time.Time{})
	want("a token for ever", true)
	for _, id := range []string{made.ID, lastID(t, b)} {
		if _, err := b.Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	want("revoked ones", false)
}

func lastID(t *testing.T, b *box) string {
	t.Helper()
	list, err := b.List()
	if err != nil || len(list) == 0 {
		t.Fatalf("%d tokens, %v", len(list), err)
	}
	return list[len(list)-1].ID
}
