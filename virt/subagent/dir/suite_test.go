package dir_test

import (
	"testing"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
)

func TestSuite(t *testing.T) {
	real(t)
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		folder := t.TempDir()
		on := func(t *testing.T) *bench { return &bench{T: t, dir: folder, web: folder} }
		return storetest.Subject{
			Open: func(t *testing.T) storetest.Opened {
				s, err := dir.Open(t.Context(), dir.Options{Dir: folder, Fetch: fetch.Options{Private: true}})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Write: func(t *testing.T, d mistify.Disk, letter byte) { on(t).write(d.Source, "qcow2", letter) },
			Holds: func(t *testing.T, d mistify.Disk, letter byte) { on(t).holds(d.Source, "qcow2", letter) },
			All:   func(t *testing.T) []string { b := on(t); b.tidy(); return b.all() },
		}
	})
}

func readAll(d *mistify.Download) ([]byte, error) { return storetest.ReadAll(d) }
