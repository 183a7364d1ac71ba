package memdb

import (
	"testing"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// slowed gathers, so that batches are of a realistic size.
func BenchmarkBatch(b *testing.B) {
	db, _ := fill(b, 10000)
	const size = 128
	drafts := make([]registry.Draft, b.N)
	for i := range drafts {
		drafts[i] = sample(10000 + 21*500 + i)
		drafts[i].Parent = ""
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += size {
		// As 128 callers would fill it, before one of them flushes.
		for j := i; j < min(i+size, b.N); j++ {
			if err := db.lock(b.Context()); err != nil {
				b.Fatal(err)
			}
			if _, err := db.run(b.Context(), trail.Trail{}, func(tx registry.Tx) error { _, err := tx.Create(drafts[j]); return err }); err != nil {
				b.Fatal(err)
			}
		}
		db.syncing <- struct{}{}
		db.flush()
		<-db.syncing
	}
}
