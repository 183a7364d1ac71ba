package etcd

import (
	"encoding/json"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// format is that of what stands in etcd. A later program keeps reading this.
const format = 1

// layout makes and takes apart keys. All begin with PREFIX registry/:
//
//	store          what this is: format and id of the store
//	head           written by every commit: its transaction
//	w/WORD         an ID, a name or a unique key. The value is the node that has the word as its ID, or names the node that holds it
//	e/ID           its revision is the edge revision of the node; the value is empty
//	b/ID/KEY       a blob
//	s/SESSION      the ticket without which no transaction of that manager commits
//	s/SESSION/about      who it is, for people
//	s/SESSION/does/WORK  it takes part in that work
type layout struct{ root string }

func newLayout(prefix string) layout { return layout{prefix + "registry/"} }

func (l layout) store() string                 { return l.root + "store" }
func (l layout) head() string                  { return l.root + "head" }
func (l layout) word(ref string) string        { return l.root + "w/" + ref }
func (l layout) edge(parent string) string     { return l.root + "e/" + parent }
func (l layout) blob(id, key string) string    { return l.root + "b/" + id + "/" + key }
func (l layout) session(name string) string    { return l.root + "s/" + name }
func (l layout) about(name string) string      { return l.session(name) + "/about" }
func (l layout) does(name, work string) string { return l.session(name) + "/does/" + work }
func (l layout) folder(which rune) string      { return l.root + string(which) + "/" }
func (l layout) of(key []byte) (string, bool)  { return strings.CutPrefix(string(key), l.root) }

// The first byte of a word's value.
const (
	isNode  = 'N' // the node itself, as memdb encodes it
	isAgain = 'A' // the same; the commit took another node of that ID away
	isRef   = 'R' // the ID of the node that holds the word
)

// about is the value of the key store.
type about struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
}

func (a about) String() string {
	b, _ := json.Marshal(a) //nolint:errchkjson // a number and a text
	return string(b)
}

func parseAbout(data []byte) (a about, err error) {
	if err := json.Unmarshal(data, &a); err != nil || a.ID == "" {
		return a, fmt.Errorf("the key store holds %.80q, which is none of ours: choose another prefix", data)
	}
	if a.Format != format {
		return a, fmt.Errorf("the store has format %d, this program reads %d: use the version that wrote it, or a newer one", a.Format, format)
	}
	return a, nil
}

// same compares the revision of a key that must not have changed; 0 is a key that
// is not there.
func same(key string, rev uint64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", int64(rev)) //nolint:gosec // revisions of etcd are int64
}
