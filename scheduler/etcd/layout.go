package etcd

import (
	"encoding/json"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// format is that of what stands in etcd. A later program keeps reading this.
const format = 1

// layout makes keys. All begin with PREFIX scheduler/:
//
//	who/leader       the manager that leads; the revision that made the key is the term of office
//	who/m/NAME       a manager that lives, under its lease
//	log/NUMBER       a commit, or the head of one that is in parts
//	part/NUMBER/N    a part of a commit; under the lease of its writer until it is committed
//	snapshot         the newest snapshot: its place, the commit that it holds, and the format of all
//	s/PLACE/N        a part of a snapshot
type layout struct{ root string }

func newLayout(prefix string) layout { return layout{prefix + "scheduler/"} }

func (l layout) who() string                    { return l.root + "who/" }
func (l layout) leader() string                 { return l.root + "who/leader" }
func (l layout) member(name string) string      { return l.root + "who/m/" + name }
func (l layout) members() string                { return l.root + "who/m/" }
func (l layout) commits() string                { return l.root + "log/" }
func (l layout) commit(n uint64) string         { return fmt.Sprintf("%slog/%020d", l.root, n) }
func (l layout) parts(n uint64) string          { return fmt.Sprintf("%spart/%020d/", l.root, n) }
func (l layout) part(n uint64, i int) string    { return fmt.Sprintf("%s%06d", l.parts(n), i) }
func (l layout) snapshot() string               { return l.root + "snapshot" }
func (l layout) place(name string) string       { return l.root + "s/" + name + "/" }
func (l layout) snap(name string, i int) string { return fmt.Sprintf("%s%08d", l.place(name), i) }

// end is the first key behind all that begin so.
func end(prefix string) string { return clientv3.GetPrefixRangeEnd(prefix) }

// member is what a manager tells the others of itself.
type member struct {
	Name    string `json:"name"`
	Host    string `json:"host,omitempty"` // for people
	Address string `json:"address"`
	Cert    []byte `json:"cert,omitempty"` // what it shows, and nobody else can
}

func (m member) String() string {
	b, _ := json.Marshal(m) //nolint:errchkjson // texts
	return string(b)
}

// snapshotHead is the value of the key snapshot.
type snapshotHead struct {
	Format int    `json:"format"`
	Place  string `json:"place"` // empty before the first
	Index  uint64 `json:"index"` // the last commit in it
	Parts  int    `json:"parts"`
	Bytes  int64  `json:"bytes"`
	Sum    uint32 `json:"sum"` // of all parts
}

func (h snapshotHead) String() string {
	b, _ := json.Marshal(h) //nolint:errchkjson // numbers and a text
	return string(b)
}

func parseHead(data []byte) (h snapshotHead, err error) {
	if err := json.Unmarshal(data, &h); err != nil || h.Parts < 0 || strings.Contains(h.Place, "/") {
		return h, fmt.Errorf("the key snapshot holds %.80q, which is none of ours: choose another prefix", data)
	}
	if h.Format != format {
		return h, fmt.Errorf("what is stored has format %d, this program reads %d: use the version that wrote it, or a newer one", h.Format, format)
	}
	return h, nil
}

func parseMember(data []byte) (m member, err error) {
	if err := json.Unmarshal(data, &m); err != nil || m.Name == "" {
		return m, fmt.Errorf("below who/ there is %.80q, which is none of ours: choose another prefix", data)
	}
	return m, nil
}
