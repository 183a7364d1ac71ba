package engine

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// keepKeys is how long an idempotency key is kept at least.
const keepKeys = 24 * time.Hour

// stone is what is left of a job that is forgotten and whose idempotency key
// still counts.
type stone struct {
	key       key
	job, pack string
	queue     string
	action    string
	content   [16]byte
	state     state
	submitted int64
	ended     int64
}

// stones are such keys, the oldest first.
type stones struct {
	byKey map[key]*stone
	list  []*stone // some may have been removed from byKey
}

func (s *stones) add(t *stone) {
	s.byKey[t.key] = t
	s.list = append(s.list, t)
}

func (s *stones) remove(k key) { delete(s.byKey, k) }

// prune drops up to n of those that are too old.
func (s *stones) prune(before int64, n int) {
	for ; n > 0 && len(s.list) > 0; n-- {
		t := s.list[0]
		if s.byKey[t.key] == t {
			if t.ended > before {
				return
			}
			delete(s.byKey, t.key)
		}
		s.list[0] = nil
		s.list = s.list[1:]
	}
}

// maxWeight bounds what the results and logs of the history take in memory.
const maxWeight = 512 << 20

func (j *job) weight() int64 {
	return int64(len(j.params) + len(j.past.result) + len(j.past.errText) + j.past.logBytes)
}

// remember adds a job to the history, unremember takes it out. What it weighs does
// not change in between.
func (c *core) remember(j *job) {
	c.ended.add(j)
	c.weight += j.weight()
}

func (c *core) unremember(j *job) {
	c.ended.remove(j)
	c.weight -= j.weight()
}

// prune forgets up to n jobs that the history need not keep, the oldest ends
// first. It reports when the next is due, 0 if there is none.
func (c *core) prune(now time.Time, n int) (due int64) {
	old := now.Add(-c.cfg.HistoryAge).UnixNano()
	keys := now.Add(-keepKeys).UnixNano()
	c.stones.prune(keys, n)
	for ; n > 0 && c.ended.first != nil; n-- {
		j := c.ended.first
		if c.ended.n <= c.cfg.HistoryCount && c.weight <= maxWeight && j.past.ended > old {
			break
		}
		if j.more != nil && j.more.key != "" && j.past.ended > keys && c.keys[key{j.source, j.more.key}] == j {
			c.stones.add(&stone{
				key: key{j.source, j.more.key}, job: j.id, pack: j.pack.id, queue: j.queue.name, action: j.action, content: contentOf(j.call()),
				state: j.state, submitted: j.submitted, ended: j.past.ended,
			})
		}
		c.forget(j)
	}
	if j := c.ended.first; j != nil {
		return j.past.ended + int64(c.cfg.HistoryAge)
	}
	return 0
}

// contentOf is what two submitters wanted, whoever they are and whatever the
// jobs are called.
func contentOf(j scheduler.Job) (sum [16]byte) {
	h := fnv.New128a()
	var n [8]byte
	text := func(s string) {
		binary.LittleEndian.PutUint64(n[:], uint64(len(s)))
		_, _ = h.Write(n[:])
		_, _ = h.Write([]byte(s))
	}
	e := &enc{}
	text(j.Queue)
	text(j.Action)
	text(j.Params.String())
	e.u(uint64(len(j.After)))
	for _, d := range j.After {
		e.byte(byte(acceptOf(d.Accept)))
	}
	e.i(int64(j.Timeout))
	e.i(nanos(j.Expires))
	e.u(uint64(j.Retry.Attempts))
	e.i(int64(j.Retry.Backoff))
	e.i(int64(j.Retry.Max))
	e.f(j.Retry.Jitter)
	e.bool(j.Retry.Park)
	e.bool(j.Urgent)
	e.bool(j.KeepQueued)
	text(string(e.b))
	copy(sum[:], h.Sum(nil))
	return sum
}

// saidHash is of a completion, to know it again when it is said twice.
func saidHash(c scheduler.Completion) uint64 {
	h := fnv.New64a()
	for _, s := range []string{c.Result.String(), c.Error, c.Code} {
		_, _ = h.Write([]byte(s))
		_, _ = h.Write([]byte{0xff})
	}
	if c.Final {
		_, _ = h.Write([]byte{1})
	}
	return h.Sum64() | 1 // 0 is nothing said
}
