package etcdtest

import (
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
)

// ForSuite is the etcd on which a conformance suite runs: one member in the process,
// and three real ones where everything is counted in full.
func ForSuite(t testing.TB) []string {
	t.Helper()
	if testlong.Long() {
		return Start(t).URLs()
	}
	return []string{Embedded(t)}
}
