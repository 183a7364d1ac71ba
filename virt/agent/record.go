package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// change is what one record of the journal says: all of it happens, or nothing.
// Its parts are whole new values and not differences, so that a record means
// the same whatever stood there before.
type change struct {
	put   *guest            // a guest is now this
	drop  string            // a guest is gone
	jobs  []*state          // jobs are now these
	fence *fence            // the highest token of a guest
	meta  map[string]string // the host's metadata; nil leaves it
}

// guest is a guest as it is stored. Nothing in it changes.
type guest struct {
	id   string
	kind string // its Type
	data []byte // its JSON

	shown []byte // the same as it is answered: without secrets; nil if there are none
}

// fence is the highest token that was seen for a guest. A zero token is none.
type fence struct {
	guest string
	token trail.Token
}

// state is a job with all that is needed to go on with it. Nothing in it
// changes: a job gets another one.
type state struct {
	mistify.Job
	Queue   string `json:",omitempty"` // if it is not the guest's
	Index   int    `json:",omitempty"` // the stage that is next, or runs
	Retries int    `json:",omitempty"` // of this stage, because the sub-agent asked for them
	RetryAt int64  `json:",omitempty"` // not before, in Unix milliseconds

	Made bool     `json:",omitempty"` // the guest was not known before the job
	Undo *undoing `json:",omitempty"` // a stage failed, and what was made is taken back

	// What the stages are given. Ended jobs have none of it.
	Guest    *mistify.Guest           `json:",omitempty"` // instead of the stored one
	Image    *mistify.ImageRequest    `json:",omitempty"`
	Snapshot *mistify.SnapshotRequest `json:",omitempty"`
	Save     *mistify.SaveRequest     `json:",omitempty"`
	To       string                   `json:",omitempty"` // where a migrate moves it
}

// queue is the name of the queue that the job stands in.
func (st *state) queue() string {
	if st.Queue != "" {
		return st.Queue
	}
	return st.GuestID
}

// The parts of a record: a letter, a length, bytes.
const (
	partPut   = 'g'
	partDrop  = 'd'
	partJob   = 'j'
	partFence = 'f'
	partMeta  = 'm'
)

// recordFormat is the first byte of every record.
const recordFormat = 1

func (c *change) encode() ([]byte, error) {
	b := make([]byte, 1, 1024)
	b[0] = recordFormat
	if c.put != nil {
		b = part(b, partPut, c.put.data)
	}
	if c.drop != "" {
		b = part(b, partDrop, []byte(c.drop))
	}
	for _, s := range c.jobs {
		data, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("cannot encode the job %s: %w", s.ID, err)
		}
		b = part(b, partJob, data)
	}
	if c.fence != nil {
		var f []byte
		f = binary.AppendUvarint(f, c.fence.token.Epoch)
		f = binary.AppendUvarint(f, c.fence.token.Number)
		b = part(b, partFence, append(f, c.fence.guest...))
	}
	if c.meta != nil {
		data, err := json.Marshal(c.meta)
		if err != nil {
			return nil, fmt.Errorf("cannot encode the host's metadata: %w", err)
		}
		b = part(b, partMeta, data)
	}
	return b, nil
}

func part(b []byte, kind byte, data []byte) []byte {
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(len(data)))
	return append(b, data...)
}

var errRecord = errors.New("it is no record of an agent: it was written by a newer one, or by something else")

func decodeChange(b []byte) (*change, error) {
	if len(b) == 0 || b[0] != recordFormat {
		return nil, errRecord
	}
	c := &change{}
	for b = b[1:]; len(b) > 0; {
		kind := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return nil, errRecord
		}
		data := b[1+n : 1+n+int(size)]
		b = b[1+n+int(size):]
		if err := c.take(kind, data); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *change) take(kind byte, data []byte) error {
	switch kind {
	case partPut:
		g, err := storedGuest(data)
		if err != nil {
			return err
		}
		c.put = g
	case partDrop:
		c.drop = string(data)
	case partJob:
		s := &state{}
		if err := json.Unmarshal(data, s); err != nil {
			return fmt.Errorf("%w: %w", errRecord, err)
		}
		c.jobs = append(c.jobs, s)
	case partFence:
		f := &fence{}
		var n, m int
		f.token.Epoch, n = binary.Uvarint(data)
		if n > 0 {
			f.token.Number, m = binary.Uvarint(data[n:])
		}
		if n <= 0 || m <= 0 {
			return errRecord
		}
		f.guest = string(data[n+m:])
		c.fence = f
	case partMeta:
		c.meta = map[string]string{}
		if err := json.Unmarshal(data, &c.meta); err != nil {
			return fmt.Errorf("%w: %w", errRecord, err)
		}
	default:
		return errRecord
	}
	return nil
}

// storedGuest reads a guest that was written.
func storedGuest(data []byte) (*guest, error) {
	var head struct{ ID, Type string }
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if head.ID == "" {
		return nil, errRecord
	}
	g := &guest{id: head.ID, kind: head.Type, data: append([]byte(nil), data...)}
	if !bytes.Contains(data, []byte(`"user_data"`)) {
		return g, nil
	}
	full, err := g.decode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	g.shown, err = shownOf(full)
	return g, err
}

// newGuest makes what is stored of g.
func newGuest(g *mistify.Guest) (*guest, error) {
	data, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the guest %s: %w", g.ID, err)
	}
	if len(data) > MaxGuest {
		return nil, invalid("the guest %s has %d bytes as JSON, at most %d are kept: make its metadata smaller", g.ID, len(data), MaxGuest)
	}
	shown, err := shownOf(g)
	return &guest{id: g.ID, kind: g.Type, data: data, shown: shown}, err
}

// shownOf is a guest's JSON without its secrets; nil if it has none.
func shownOf(g *mistify.Guest) ([]byte, error) {
	if g.CloudInit.UserData == "" {
		return nil, nil
	}
	return json.Marshal(g.Shown())
}

// answer is the JSON that clients get.
func (g *guest) answer() []byte {
	if g.shown != nil {
		return g.shown
	}
	return g.data
}

// decode gives a copy that is the caller's own.
func (g *guest) decode() (*mistify.Guest, error) {
	v := &mistify.Guest{}
	if err := json.Unmarshal(g.data, v); err != nil {
		return nil, fmt.Errorf("the stored guest %s cannot be read: %w", g.id, err)
	}
	return v, nil
}

// fail makes st a job that has ended with an error.
func (st *state) fail(err error) {
	st.end(mistify.JobError)
	st.Message, st.Kind = clip(err.Error()), mistify.KindOf(err)
}

func (st *state) end(status mistify.JobStatus) {
	st.Status = status
	st.Guest, st.Image, st.Snapshot, st.Save, st.RetryAt, st.Retries, st.Undo, st.Made, st.To = nil, nil, nil, nil, 0, 0, nil, false, ""
}

// clip bounds a message that is kept.
func clip(text string) string {
	const most = 2048
	return clipTo(text, most)
}

func clipTo(text string, most int) string {
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
