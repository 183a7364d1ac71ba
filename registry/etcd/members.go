package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/registry"
)

// members are the sessions that were alive when they were read last.
type members struct {
	mu     sync.Mutex
	all    []registry.Member // by how long they are there
	shares map[string]*share // of this process, by work
}

// membersOf reads the folder of sessions: SESSION, SESSION/about and
// SESSION/does/WORK.
func (r *Registry) membersOf(kvs []*mvccpb.KeyValue) []registry.Member {
	var all []registry.Member
	self, _ := r.session.now()
	for _, kv := range kvs { // a session comes before what is below it
		id, part, below := strings.Cut(strings.TrimPrefix(string(kv.Key), r.keys.folder('s')), "/")
		if !below {
			all = append(all, registry.Member{ID: id, Self: id == self})
			continue
		}
		i := slices.IndexFunc(all, func(m registry.Member) bool { return m.ID == id })
		if i < 0 {
			continue // it is going
		}
		if work, does := strings.CutPrefix(part, "does/"); does {
			all[i].Works = append(all[i].Works, work)
		} else if part == "about" {
			var about registry.Member
			if json.Unmarshal(kv.Value, &about) == nil { // or it says nothing that we understand
				all[i].Host, all[i].PID, all[i].Since = about.Host, about.PID, about.Since
			}
		}
	}
	slices.SortFunc(all, func(a, b registry.Member) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID)) })
	return all
}

// about is what this process says of itself.
func (r *Registry) about() string {
	host, _ := os.Hostname()                                                             // or it has none
	b, _ := json.Marshal(registry.Member{Host: host, PID: os.Getpid(), Since: r.opened}) //nolint:errchkjson // texts, a number and a time
	return string(b)
}

// Store implements registry.Shared.
func (r *Registry) Store() string { return r.rep.Store() }

// Members implements registry.Shared.
func (r *Registry) Members(ctx context.Context) ([]registry.Member, error) {
	waiting, cancel := r.bounded(ctx)
	defer cancel()
	resp, err := r.client.Get(waiting, r.keys.folder('s'), clientv3.WithPrefix())
	if err != nil {
		return nil, r.unread(ctx, err)
	}
	return r.membersOf(resp.Kvs), nil
}

// meet reads who is there, and sees to it that this process is among those whose
// works it shares.
func (r *Registry) meet(ctx context.Context) error {
	asked := time.Now() // what was read is at least as new
	all, err := r.Members(ctx)
	if err != nil {
		return err
	}
	r.members.took(all, asked)
	session, lease := r.session.place()
	var has []string
	for _, m := range all {
		if m.Self {
			has = m.Works
		}
	}
	does := r.members.works()
	for _, work := range append(slices.Clone(does), has...) {
		if slices.Contains(does, work) == slices.Contains(has, work) {
			continue
		}
		op := clientv3.OpDelete(r.keys.does(session, work))
		if slices.Contains(does, work) {
			op = clientv3.OpPut(r.keys.does(session, work), "", clientv3.WithLease(lease))
		}
		waiting, cancel := r.bounded(ctx)
		_, err := r.client.Do(waiting, op)
		cancel()
		if err != nil {
			return err
		}
		r.soon() // to see it
	}
	return nil
}

// soon makes the next probe come at once.
func (r *Registry) soon() {
	select {
	case r.hurry <- struct{}{}:
	default: // it is on its way
	}
}

func (m *members) took(all []registry.Member, asked time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = all
	for work, s := range m.shares {
		var who []string
		for _, of := range all {
			if slices.Contains(of.Works, work) {
				who = append(who, of.ID)
			}
		}
		slices.Sort(who)
		s.take(who, asked, time.Now())
	}
}

// list is who was there.
func (m *members) list() []registry.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

// works are those that this process takes part in.
func (m *members) works() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.shares))
}
