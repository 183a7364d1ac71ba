package libvirt

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// A poll of a host with many running domains, over a unix socket.
func BenchmarkStatus(b *testing.B) {
	for _, n := range []int{20, 1000} {
		var list bytes.Buffer
		for i := range n {
			list.Write(domainRecord(uint32(i)))
		}
		f := newFake(b, on(procConnectGetAllDomainStats, replies(func(q request) []byte { return ok(q, words(uint32(n)), list.Bytes()) })))
		d := openAt(b, f.address, 10*time.Second)
		b.Run(fmt.Sprintf("domains=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l, err := d.Status(b.Context(), virt.Host{})
				if err != nil || len(l.Guests) != n {
					b.Fatal(len(l.Guests), err)
				}
			}
		})
	}
}
