package etcd

import (
	"fmt"
	"testing"
	"time"
)

// shared is the share of a process that has the session me.
func shared(longest time.Duration) *share {
	r := &Registry{cfg: Defaults()}
	r.cfg.Probe = 100 * time.Millisecond
	r.session.name = "me"
	return &share{r: r, longest: longest}
}

// mine returns how many of 1000 things are this process's.
func (s *share) mine() (n int) {
	for i := range 1000 {
		if s.Mine(fmt.Sprint("host", i)) {
			n++
		}
	}
	return n
}

// What is lost is lost at once; what is gained is gained when nobody can be at it
// any more; what was read too long ago says nothing.
func TestShare(t *testing.T) {
	const longest = time.Second
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	type reading struct {
		age time.Duration
		who []string
	}
	for _, c := range []struct {
		name        string
		least, most int
		readings    []reading
	}{
		{"nobody is known to be there", 0, 0, nil},
		{"alone from the beginning", 1000, 1000, []reading{{0, []string{"me"}}}},
		{"others alone", 0, 0, []reading{{0, []string{"a", "b"}}}},
		{"three for long", 250, 420, []reading{{time.Minute, []string{"a", "b", "me"}}, {0, []string{"a", "b", "me"}}}},
		{"just come to two", 0, 0, []reading{{500 * time.Millisecond, []string{"a", "b"}}, {0, []string{"a", "b", "me"}}}},
		{"come to two a while ago", 250, 420, []reading{{time.Minute, []string{"a", "b"}}, {3 * time.Second, []string{"a", "b", "me"}}, {0, []string{"a", "b", "me"}}}},
		{"one has just gone", 250, 420, []reading{{time.Minute, []string{"a", "b", "me"}}, {0, []string{"a", "me"}}}},
		{"one has gone a while ago", 430, 570, []reading{{time.Minute, []string{"a", "b", "me"}}, {3 * time.Second, []string{"a", "me"}}, {0, []string{"a", "me"}}}},
		{"one has just come", 250, 420, []reading{{time.Minute, []string{"a", "me"}}, {0, []string{"a", "b", "me"}}}},
		{"we are gone", 0, 0, []reading{{time.Minute, []string{"a", "me"}}, {0, []string{"a"}}}},
		{"read too long ago", 0, 0, []reading{{time.Minute, []string{"me"}}, {longest + time.Millisecond, []string{"me"}}}},
	} {
		s := shared(longest)
		for _, r := range c.readings {
			s.take(r.who, ago(r.age), ago(r.age))
		}
		if n := s.mine(); n < c.least || n > c.most {
			t.Errorf("%s: %d of 1000 are ours, want %d to %d", c.name, n, c.least, c.most)
		}
	}
}

// Two who know the same divide all between them; when one goes, the others keep
// what they had.
func TestOwners(t *testing.T) {
	moved := 0
	for i := range 1000 {
		id := fmt.Sprint("host", i)
		three, two := ownerOf(id, []string{"a", "b", "c"}), ownerOf(id, []string{"a", "b"})
		if three != "c" && three != two {
			t.Errorf("%s was %s's, and is %s's now that c has gone", id, three, two)
		}
		if three != two {
			moved++
		}
	}
	if moved < 250 || moved > 420 {
		t.Errorf("%d of 1000 were c's", moved)
	}
	if ownerOf("x", nil) != "" {
		t.Error("nobody owns something")
	}
}
