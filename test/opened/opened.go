// Package opened opens managers of the standard parts for the tests of whole
// clusters.
package opened

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/trail"
)

// Open writes a vagoth.ini with the text into dir, where the manager's data stands
// too, and opens it. It is closed when the test ends. What is done with the context
// says that a tester did it.
func Open(t testing.TB, dir, text string) (context.Context, *manager.Manager) {
	t.Helper()
	ini := filepath.Join(dir, "vagoth.ini")
	if err := os.WriteFile(ini, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := trail.With(t.Context(), trail.New("tester", "end to end"))
	m, err := standard.Open(ctx, ini)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return ctx, m
}
