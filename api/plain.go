package api

import (
	"bytes"
	"math"
	"time"
	"unicode/utf8"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// plainDecode decodes the bodies that a busy daemon and its workers exchange
// most, without reflection. It is false for all that it does not take: another
// type, and any body that is not as plain as such bodies are (members that are
// unknown, stand twice or are seldom given, escaped text, null, a mistake of any
// kind). Those are for the decoder that every other body goes through, which
// says what is wrong and where; *v is untouched then.
//
// What it takes it decodes as that decoder does: a test compares both.
func plainDecode(data []byte, v any) bool {
	p := plainReader{b: data}
	switch v := v.(type) {
	case *scheduler.Package:
		return take(&p, v, p.pack)
	case *scheduler.Want:
		return take(&p, v, p.want)
	case *CompleteRequest:
		return take(&p, v, p.completeRequest)
	case *Completed:
		return take(&p, v, p.completed)
	case *[]scheduler.Lease:
		return take(&p, v, p.leases)
	case *[]scheduler.Status:
		return take(&p, v, p.statuses)
	}
	return false
}

// take reads a whole body.
func take[T any](p *plainReader, into *T, read func(*T) bool) bool {
	var v T
	if !utf8.Valid(p.b) || !read(&v) {
		return false
	}
	if p.space(); p.i != len(p.b) {
		return false
	}
	*into = v
	return true
}

// plainReader goes through a body. Each method reads one value and is false if
// there is another.
type plainReader struct {
	b []byte
	i int
}

func (p *plainReader) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		default:
			return
		}
	}
}

// is goes past c if it comes next.
func (p *plainReader) is(c byte) bool {
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	if p.space(); p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	return false
}

// word reads a text without escapes.
func (p *plainReader) word() ([]byte, bool) {
	if !p.is('"') {
		return nil, false
	}
	from := p.i
	for ; p.i < len(p.b); p.i++ {
		switch c := p.b[p.i]; {
		case c == '"':
			p.i++
			return p.b[from : p.i-1], true
		case c < ' ' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

func (p *plainReader) text(s *string) bool {
	w, ok := p.word()
	if ok {
		*s = string(w)
	}
	return ok
}

func (p *plainReader) uint(n *uint64) bool {
	p.space()
	from := p.i
	var v uint64
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		v = v*10 + uint64(p.b[p.i]-'0')
		p.i++
	}
	digits := p.i - from
	if digits == 0 || digits > 18 || digits > 1 && p.b[from] == '0' {
		return false
	}
	*n = v
	return true
}

func (p *plainReader) int(n *int) bool {
	var v uint64
	if !p.uint(&v) || v > math.MaxInt {
		return false
	}
	*n = int(v)
	return true
}

func (p *plainReader) bool(b *bool) bool {
	p.space()
	switch rest := p.b[p.i:]; {
	case bytes.HasPrefix(rest, []byte("true")):
		p.i += len("true")
		*b = true
	case bytes.HasPrefix(rest, []byte("false")):
		p.i += len("false")
		*b = false
	default:
		return false
	}
	return true
}

func (p *plainReader) span(s *scheduler.Span) bool {
	w, ok := p.word()
	if !ok {
		return false
	}
	d, err := component.ParseDuration(string(w))
	*s = scheduler.Span(d)
	return err == nil
}

func (p *plainReader) time(t *time.Time) bool {
	from := p.i
	if _, ok := p.word(); !ok {
		return false
	}
	return t.UnmarshalJSON(bytes.TrimSpace(p.b[from:p.i])) == nil
}

// document reads an object of any members.
func (p *plainReader) document(d *registry.Document) bool {
	p.space()
	from, depth := p.i, 0
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case '"':
			if !p.past() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if p.i++; depth == 0 {
			return p.b[from] == '{' && d.UnmarshalJSON(p.b[from:p.i]) == nil
		}
	}
	return false
}

// past goes past a text, which may have escapes.
func (p *plainReader) past() bool {
	for p.i++; p.i < len(p.b); p.i++ {
		switch p.b[p.i] {
		case '\\':
			p.i++
		case '"':
			p.i++
			return true
		}
	}
	return false
}

// list reads a list, one element after the other.
func (p *plainReader) list(element func() bool) bool {
	if !p.is('[') {
		return false
	}
	if p.is(']') {
		return true
	}
	for {
		if !element() {
			return false
		}
		if p.is(']') {
			return true
		}
		if !p.is(',') {
			return false
		}
	}
}

// object reads an object. member reads the value of a name and gives the name a
// number of its own, from 0 to 31.
func (p *plainReader) object(member func(name []byte) (int, bool)) bool {
	if !p.is('{') {
		return false
	}
	if p.is('}') {
		return true
	}
	var seen uint32
	for {
		name, ok := p.word()
		if !ok || !p.is(':') {
			return false
		}
		n, ok := member(name)
		if !ok || seen&(1<<n) != 0 {
			return false
		}
		seen |= 1 << n
		if p.is('}') {
			return true
		}
		if !p.is(',') {
			return false
		}
	}
}

func (p *plainReader) texts(list *[]string) bool {
	*list = []string{}
	return p.list(func() bool {
		w, ok := p.word()
		*list = append(*list, string(w))
		return ok
	})
}

func (p *plainReader) pack(v *scheduler.Package) bool {
	return p.object(func(name []byte) (int, bool) {
		switch string(name) {
		case "id":
			return 0, p.text(&v.ID)
		case "jobs":
			v.Jobs = make([]scheduler.Job, 0, min(bytes.Count(p.b[p.i:], []byte(`"action"`)), 1000))
			return 1, p.list(func() bool {
				v.Jobs = append(v.Jobs, scheduler.Job{})
				return p.job(&v.Jobs[len(v.Jobs)-1])
			})
		}
		return 0, false
	})
}

func (p *plainReader) job(j *scheduler.Job) bool {
	return p.object(func(name []byte) (int, bool) {
		switch string(name) {
		case "id":
			return 0, p.text(&j.ID)
		case "queue":
			return 1, p.text(&j.Queue)
		case "action":
			return 2, p.text(&j.Action)
		case "params":
			return 3, p.document(&j.Params)
		case "after":
			j.After = []scheduler.Dependency{}
			return 4, p.list(func() bool {
				j.After = append(j.After, scheduler.Dependency{})
				return p.dependency(&j.After[len(j.After)-1])
			})
		case "timeout":
			return 5, p.span(&j.Timeout)
		case "key":
			return 6, p.text(&j.Key)
		}
		return 0, false
	})
}

func (p *plainReader) dependency(d *scheduler.Dependency) bool {
	return p.object(func(name []byte) (int, bool) {
		switch string(name) {
		case "id":
			return 0, p.text(&d.ID)
		case "index":
			d.Index = new(int)
			return 1, p.int(d.Index)
		}
		return 0, false
	})
}

func (p *plainReader) want(w *scheduler.Want) bool {
	return p.object(func(name []byte) (int, bool) {
		switch string(name) {
		case "worker":
			return 0, p.text(&w.Worker)
		case "queues":
			return 1, p.texts(&w.Queues)
		case "actions":
			return 2, p.texts(&w.Actions)
		case "max":
			return 3, p.int(&w.Max)
		case "wait":
			return 4, p.span(&w.Wait)
		case "lease":
			return 5, p.span(&w.Lease)
		}
		return 0, false
	})
}

func (p *plainReader) token(t *trail.Token) bool {
	return p.object(func(name []byte) (int, bool) {
		switch string(name) {
		case "epoch":
			return 0, p.uint(&t.Epoch)
		case "number":
			return 1, p.uint(&t.Number)
		}
		return 0, false
	})
}

func (p *plainReader) completeRequest(r *CompleteRequest) bool {
	return p.object(func(name []byte) (int, bool) {
		if string(name) != "completions" {
			return p.completionMember(&r.Completion, name)
		}
		r.Completions = make([]scheduler.Completion, 0, min(bytes.Count(p.b[p.i:], []byte(`"token"`)), MaxComplete))
		return 31, p.list(func() bool {
			r.Completions = append(r.Completions, scheduler.Completion{})
			c := &r.Completions[len(r.Completions)-1]
			return p.object(func(name []byte) (int, bool) { return p.completionMember(c, name) })
		})
	})
}

func (p *plainReader) completionMember(c *scheduler.Completion, name []byte) (int, bool) {
	switch string(name) {
	case "job":
		return 0, p.text(&c.Job)
	case "token":
		return 1, p.token(&c.Token)
	case "result":
		return 2, p.document(&c.Result)
	case "error":
		return 3, p.text(&c.Error)
	case "code":
		return 4, p.text(&c.Code)
	case "final":
		return 5, p.bool(&c.Final)
	}
	return 0, false
}

// completed reads the short answer to completions.
func (p *plainReader) completed(c *Completed) bool {
	return p.object(func(name []byte) (int, bool) {
		c.Results = []CompleteResult{}
		return 0, string(name) == "results" && p.list(func() bool {
			c.Results = append(c.Results, CompleteResult{})
			return p.is('{') && p.is('}')
		})
	})
}

// statuses reads the short answer to a package.
func (p *plainReader) statuses(list *[]scheduler.Status) bool {
	*list = make([]scheduler.Status, 0, min(bytes.Count(p.b, []byte(`"state"`)), 1000))
	var pack, state string // those of the one before: mostly the same
	return p.list(func() bool {
		*list = append(*list, scheduler.Status{})
		st := &(*list)[len(*list)-1]
		return p.object(func(name []byte) (int, bool) {
			switch string(name) {
			case "id":
				return 0, p.text(&st.ID)
			case "package":
				ok := p.again(&pack)
				st.Package = pack
				return 1, ok
			case "state":
				ok := p.again(&state)
				st.State = scheduler.State(state)
				return 2, ok
			}
			return 0, false
		})
	})
}

// again reads a text that is likely to be what *s is already.
func (p *plainReader) again(s *string) bool {
	w, ok := p.word()
	if ok && string(w) != *s {
		*s = string(w)
	}
	return ok
}

func (p *plainReader) leases(list *[]scheduler.Lease) bool {
	*list = make([]scheduler.Lease, 0, min(bytes.Count(p.b, []byte(`"until"`)), scheduler.MaxNext))
	var pack, action, transaction, source string // those of the one before: mostly the same
	return p.list(func() bool {
		*list = append(*list, scheduler.Lease{})
		l := &(*list)[len(*list)-1]
		return p.object(func(name []byte) (n int, ok bool) {
			switch string(name) {
			case "job":
				return 0, p.text(&l.Job)
			case "token":
				return 1, p.token(&l.Token)
			case "queue":
				return 2, p.text(&l.Queue)
			case "action":
				ok = p.again(&action)
				l.Action = action
				return 3, ok
			case "params":
				return 4, p.document(&l.Params)
			case "package":
				ok = p.again(&pack)
				l.Package = pack
				return 5, ok
			case "attempt":
				return 6, p.int(&l.Attempt)
			case "length":
				return 7, p.span(&l.Length)
			case "until":
				return 8, p.time(&l.Until)
			case "deadline":
				return 9, p.time(&l.Deadline)
			case "trail":
				return 10, p.trail(&l.Trail, &transaction, &source, l.Job)
			}
			return 0, false
		})
	})
}

func (p *plainReader) trail(t *trail.Trail, transaction, source *string, job string) bool {
	return p.object(func(name []byte) (n int, ok bool) {
		switch string(name) {
		case "transaction":
			ok = p.again(transaction)
			t.Transaction = *transaction
			return 0, ok
		case "source":
			ok = p.again(source)
			t.Source = *source
			return 1, ok
		case "reason":
			return 2, p.text(&t.Reason)
		case "job":
			t.Job = job
			return 3, p.again(&t.Job)
		case "attempt":
			return 4, p.int(&t.Attempt)
		case "token":
			return 5, p.token(&t.Token)
		}
		return 0, false
	})
}
