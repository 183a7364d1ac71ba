package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/manager/component"
)

// Changed lists the keys that stand otherwise in next than in s, or in only one
// of them, such as "[scheduler] lease", in order. Values are not told: they may
// be secret.
func (s *Settings) Changed(next *Settings) []string {
	var places [][2]string
	for at, raw := range s.text {
		if now, ok := next.text[at]; !ok || now != raw {
			places = append(places, at)
		}
	}
	for at := range next.text {
		if _, ok := s.text[at]; !ok {
			places = append(places, at)
		}
	}
	slices.SortFunc(places, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	names := make([]string, len(places))
	for i, at := range places {
		names[i] = at[1]
		if at[0] != "" {
			names[i] = "[" + at[0] + "] " + at[1]
		}
	}
	return names
}

// Reload gives the open components what they take of another configuration of
// the same file: [queue.NAME] and [limit.NAME], if the scheduler takes them. It returns the changed keys
// that need a restart, those of [serve] apart, which is the daemon's business.
// With an error nothing has changed.
func (m *Manager) Reload(ctx context.Context, next *Settings) (restart []string, err error) {
	m.mu.Lock()
	old := m.Settings
	if m.reloaded != nil {
		old = m.reloaded
	}
	m.mu.Unlock()
	var taken bool
	changed := old.Changed(next)
	if slices.ContainsFunc(changed, ofScheduler) && old.scheduler.Kind == next.scheduler.Kind && next.scheduler.Reload != nil {
		switch err := next.scheduler.Reload(ctx, m.Scheduler); {
		case err == nil:
			taken = true
		case !errors.Is(err, component.ErrNoReload):
			return nil, fmt.Errorf("cannot reload scheduler %s: %w", next.scheduler.Kind, err)
		}
	}
	// What waits for a restart goes on doing so, whatever is reloaded afterwards.
	for _, key := range m.Settings.Changed(next) {
		if strings.HasPrefix(key, "[serve] ") || ofScheduler(key) && (taken || !slices.Contains(changed, key)) {
			continue
		}
		restart = append(restart, key)
	}
	if taken {
		m.mu.Lock()
		m.reloaded = next
		m.mu.Unlock()
	}
	return restart, nil
}

// ofScheduler reports whether a key is one that a scheduler can take while it is
// open.
func ofScheduler(key string) bool {
	return strings.HasPrefix(key, "[queue.") || strings.HasPrefix(key, "[limit.")
}
