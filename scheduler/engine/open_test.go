package engine

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onDisk opens an engine over a journal, as the scheduler broker does.
func onDisk(ctx context.Context, cfg Config, deps scheduler.Deps, every int64) (*Engine, error) {
	return Open(ctx, cfg, deps, Ground{SnapshotEvery: every, Open: func(ctx context.Context, load journal.Loader) (Log, error) {
		return journal.Open(ctx, journal.Options{Dir: deps.Data, Log: deps.Log}, load)
	}})
}
