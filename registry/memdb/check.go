package memdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// Check opens the store in dir, which reads every record and verifies its
// checksum, and looks whether the nodes keep the promises that hold between
// them and whether every index agrees with the nodes. A store that another
// process has open is waited for as long as wait. Check writes nothing but what
// every opening does: it cuts off the torn end of a write that a crash left.
func Check(ctx context.Context, dir string, wait time.Duration) (registry.Audited, error) {
	c := Defaults()
	c.Path = component.Path(dir)
	db, err := Open(ctx, c, registry.Deps{LockWait: wait})
	if err != nil {
		return registry.Audited{}, err
	}
	found, err := db.Audit(ctx)
	if err = errors.Join(err, db.Close()); err != nil {
		return found, fmt.Errorf("cannot check the registry %s: %w", dir, err)
	}
	return found, nil
}
