package etcdclient

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/vagoth/vagoth/registry"
)

// Refused is an error after which nothing has been written, as vagoth's
// users know it; nil if err may have come after the write.
func Refused(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: its space is used up: compact and defragment it or raise its quota, then disarm the alarm: %w", registry.ErrUnavailable, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: etcd takes no transaction of this size: leave --max-request-bytes and --max-txn-ops at their defaults or above: %w", registry.ErrTooLarge, err)
	case isDenied(err):
		return fmt.Errorf("%w: it refuses us: check username, password and the user's role: %w", registry.ErrUnavailable, err)
	case errors.Is(err, rpctypes.ErrCorrupt):
		return fmt.Errorf("%w: a member is damaged: %w", registry.ErrUnavailable, err)
	}
	return nil
}

// Elects is an error of members that have just lost their leader, and have another one
// soon: what only reads is asked again.
func Elects(err error) bool {
	return errors.Is(err, rpctypes.ErrLeaderChanged) || errors.Is(err, rpctypes.ErrNoLeader) || errors.Is(err, rpctypes.ErrNotLeader) ||
		errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail)
}

// isDenied reports whether etcd knows us and does not let us.
func isDenied(err error) bool {
	for _, e := range []error{rpctypes.ErrPermissionDenied, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken,
		rpctypes.ErrAuthNotEnabled, rpctypes.ErrAuthOldRevision, rpctypes.ErrInvalidAuthMgmt} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
