package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// Limits that every scheduler keeps.
const (
	MaxJobs     = 10_000 // of a package
	MaxAfter    = 1_000  // dependencies of a job
	MaxAttempts = 1_000
	MaxLimits   = 16
	MaxKey      = 255 // bytes of an idempotency key
	MaxParams   = 64 << 10
)

// maxProblems bounds how many problems of one package are listed.
const maxProblems = 50

// CheckError is an ErrInvalid: all that is wrong with a package.
type CheckError struct{ Problems []string }

func (e *CheckError) Error() string {
	if len(e.Problems) == 1 {
		return "the package is refused: " + e.Problems[0]
	}
	return fmt.Sprintf("the package is refused for %d problems:\n  %s", len(e.Problems), strings.Join(e.Problems, "\n  "))
}

// Is makes the error an ErrInvalid.
func (e *CheckError) Is(target error) bool { return target == ErrInvalid }

// Resolve returns p as a scheduler keeps it: with IDs for the package and its
// jobs, dependencies by ID only, the trail t where a job has none, and the
// action's timeout and urgency where the job says nothing. It copies what it
// changes. p has passed Check.
func Resolve(actions map[string]Action, p Package, t trail.Trail) Package {
	if p.ID == "" {
		p.ID = newID()
	}
	p.Jobs = ResolveMore(actions, nil, p.Jobs, t)
	return p
}

// ResolveMore is Resolve for jobs that follow others in a package, which are
// resolved already.
func ResolveMore(actions map[string]Action, before, jobs []Job, t trail.Trail) []Job {
	jobs = slices.Clone(jobs)
	for i := range jobs {
		j := &jobs[i]
		if j.ID == "" {
			j.ID = newID()
		}
		if j.Trail == (trail.Trail{}) {
			j.Trail = t
		}
		j.Trail.Transaction = orElse(j.Trail.Transaction, t.Transaction)
		j.Trail.Source = orElse(j.Trail.Source, t.Source)
		a := actions[j.Action]
		if j.Timeout == 0 {
			j.Timeout = Span(a.Timeout)
		}
		j.Urgent = j.Urgent || a.Urgent
	}
	for i := range jobs {
		j := &jobs[i]
		j.After = slices.Clone(j.After)
		for k := range j.After {
			d := &j.After[k]
			switch {
			case d.Index == nil:
			case *d.Index < len(before):
				*d = Dependency{ID: before[*d.Index].ID, Accept: d.Accept}
			default:
				*d = Dependency{ID: jobs[*d.Index-len(before)].ID, Accept: d.Accept}
			}
		}
	}
	return jobs
}

// newID is unique and sorts by time.
func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.NewString()
	}
	return id.String()
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Check returns a *CheckError with everything that is wrong with p on its own.
// Whether a dependency on an earlier job exists is for the scheduler to find
// out.
func Check(actions map[string]Action, p Package) error {
	find := func(j *Job) (Action, bool) {
		a, ok := actions[j.Action]
		return a, ok
	}
	return Checking{Find: find, Known: actions}.Check(p)
}

// Checking says against what packages are checked.
type Checking struct {
	Find   func(*Job) (Action, bool) // the action that a job calls
	Known  map[string]Action         // to be suggested where there is none
	Before []Job                     // of the same package, which were checked before
}

// Check is the function Check for all of p, or what follows Before in it.
func (k Checking) Check(p Package) error {
	c := checker{Checking: k}
	if p.ID != "" {
		if err := registry.CheckName(p.ID); err != nil {
			c.add("the package's ID: %v", err)
		}
	}
	switch {
	case len(p.Jobs) == 0:
		c.add("it has no jobs")
	case len(k.Before)+len(p.Jobs) > MaxJobs:
		c.add("it has %d jobs, at most %d are taken at once", len(k.Before)+len(p.Jobs), MaxJobs)
		return &CheckError{c.problems}
	}
	before := len(k.Before)
	for i := range p.Jobs {
		if id := p.Jobs[i].ID; id != "" {
			first, ok := c.ids[id]
			if !ok {
				first = slices.IndexFunc(k.Before, func(j Job) bool { return j.ID == id })
				ok = first >= 0
			}
			if ok {
				c.add("job %d: its ID %q is that of job %d too", before+i, id, first)
			}
			if c.ids == nil {
				c.ids = make(map[string]int, len(p.Jobs))
			}
			c.ids[id] = before + i
		}
	}
	depend := false
	for i := range p.Jobs {
		c.job(before+i, &p.Jobs[i], before+len(p.Jobs))
		depend = depend || len(p.Jobs[i].After) > 0
	}
	if len(c.problems) == 0 && depend {
		c.cycle(p.Jobs)
	}
	if len(c.problems) == 0 {
		return nil
	}
	if more := len(c.problems) - maxProblems; more > 0 {
		c.problems = append(c.problems[:maxProblems], fmt.Sprintf("… and %d more", more))
	}
	return &CheckError{c.problems}
}

type checker struct {
	Checking
	ids      map[string]int
	keys     map[[2]string]int
	problems []string
}

func (c *checker) add(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// place is where a problem is. It is put into words only if there is one.
type place struct {
	i      int    // of the job; negative if it is about the action alone
	action string // if it is known
}

func (p place) String() string {
	switch {
	case p.i < 0:
		return "action " + p.action
	case p.action == "":
		return fmt.Sprintf("job %d", p.i)
	}
	return fmt.Sprintf("job %d (%s)", p.i, p.action)
}

// job checks the job at position i of a package of n.
func (c *checker) job(i int, j *Job, n int) {
	a, ok := c.Find(j)
	at := place{i: i}
	if ok {
		at.action = j.Action
	}
	name := func(what, s string) {
		if err := registry.CheckName(s); err != nil {
			c.add("%s: %s: %v", at, what, err)
		}
	}
	if j.ID != "" {
		name("its ID", j.ID)
	}
	if err := registry.CheckKey(j.Queue); err != nil {
		c.add("%s: its queue: %v", at, err)
	}
	if ok {
		c.params(at, a, j.Params)
	} else {
		hint := component.DidYouMean(j.Action, maps.Keys(c.Known))
		if hint == "" {
			hint = "known are " + strings.Join(slices.Sorted(maps.Keys(c.Known)), ", ")
		}
		c.add("%s: there is no action %.64q (%s)", at, j.Action, hint)
	}
	c.after(at, i, j, n)
	if j.Timeout < 0 {
		c.add("%s: its timeout %s is negative", at, j.Timeout)
	}
	r := j.Retry
	if r.Attempts < 0 || r.Attempts > MaxAttempts {
		c.add("%s: %d attempts: use 1 to %d", at, r.Attempts, MaxAttempts)
	}
	if r.Backoff < 0 || r.Max < 0 {
		c.add("%s: a backoff is negative", at)
	}
	if !(r.Jitter >= 0 && r.Jitter <= 1) {
		c.add("%s: a jitter of %v: use 0 to 1", at, r.Jitter)
	}
	if len(j.Limits) > MaxLimits {
		c.add("%s: it takes %d limits, at most %d are allowed", at, len(j.Limits), MaxLimits)
	}
	for _, l := range j.Limits {
		if err := registry.CheckKey(l); err != nil {
			c.add("%s: its limit: %v", at, err)
		}
	}
	if err := j.Trail.Validate(); err != nil {
		c.add("%s: %v", at, err)
	}
	if j.Key != "" {
		if err := checkIdempotency(j.Key); err != nil {
			c.add("%s: its idempotency key: %v", at, err)
		}
		k := [2]string{j.Trail.Source, j.Key}
		first, ok := c.keys[k]
		if !ok {
			first = slices.IndexFunc(c.Before, func(o Job) bool { return o.Key == k[1] && o.Trail.Source == k[0] })
			ok = first >= 0
		}
		if ok {
			c.add("%s: its idempotency key is that of job %d too", at, first)
		}
		if c.keys == nil {
			c.keys = map[[2]string]int{}
		}
		c.keys[k] = i
	}
}

func checkIdempotency(key string) error {
	if len(key) > MaxKey {
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(key), MaxKey)
	}
	return registry.CheckTag("key", key)
}

func (c *checker) after(at place, i int, j *Job, n int) {
	if len(j.After) > MaxAfter {
		c.add("%s: it has %d dependencies, at most %d are allowed", at, len(j.After), MaxAfter)
		return
	}
	for _, d := range j.After {
		switch {
		case d.Index != nil && d.ID != "":
			c.add("%s: a dependency names a job by ID or by index, not both", at)
		case d.Index != nil && (*d.Index < 0 || *d.Index >= n):
			c.add("%s: it depends on job %d, and the package has jobs 0 to %d", at, *d.Index, n-1)
		case d.Index != nil && *d.Index == i, d.ID != "" && d.ID == j.ID:
			c.add("%s: it depends on itself", at)
		case d.Index == nil:
			if err := registry.CheckName(d.ID); err != nil {
				c.add("%s: the ID of a dependency: %v", at, err)
			}
		}
		for _, s := range d.Accept {
			if !s.Ended() {
				c.add("%s: a dependency accepts %.32q, which is no end: use succeeded, failed, cancelled or expired", at, s)
			}
		}
	}
}

// params checks what is given against what the action takes.
func (c *checker) params(at place, a Action, doc registry.Document) {
	if doc.Len() > MaxParams {
		c.add("%s: its parameters have %d bytes, at most %d are allowed", at, doc.Len(), MaxParams)
		return
	}
	if a.AnyParams && len(a.Params) == 0 {
		return // a document is an object
	}
	given, err := doc.Map()
	if err != nil {
		c.add("%s: its parameters: %v", at, err)
		return
	}
	known := make([]string, 0, len(a.Params))
	for _, p := range a.Params {
		known = append(known, p.Name)
		v, ok := given[p.Name]
		delete(given, p.Name)
		switch {
		case !ok && p.Required:
			c.add("%s: the parameter %q (%s) is missing", at, p.Name, p.Type)
		case ok:
			if err := p.Type.check(v); err != nil {
				c.add("%s: the parameter %q %v", at, p.Name, err)
			} else if s, text := v.(string); text && s == "" && p.Required {
				c.add("%s: the parameter %q is empty", at, p.Name)
			}
		}
	}
	if a.AnyParams {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		hint := component.DidYouMean(name, slices.Values(known))
		if hint == "" {
			hint = "it takes " + orElse(strings.Join(known, ", "), "none")
		}
		c.add("%s: unknown parameter %.64q (%s)", at, name, hint)
	}
}

func (t ParamType) check(v any) error {
	ok := false
	switch x := v.(type) {
	case string:
		ok = t == String
		if t == Duration {
			if d, err := time.ParseDuration(x); err != nil || d < 0 {
				return fmt.Errorf(`must be a duration such as "30s", not %.32q`, x)
			}
			ok = true
		}
	case json.Number:
		_, err := x.Int64()
		ok = t == Number || t == Integer && err == nil
	case bool:
		ok = t == Boolean
	case map[string]any:
		ok = t == Object
	case []any:
		ok = t == Array
	}
	if !ok {
		return fmt.Errorf("must be of type %s, not %s", t, jsonType(v))
	}
	return nil
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case json.Number:
		return "number"
	case bool:
		return "boolean"
	case []any:
		return "array"
	}
	return "object"
}

// cycle finds a circle of dependencies within the package. A job that was
// submitted earlier cannot depend on one of these.
func (c *checker) cycle(jobs []Job) {
	const (
		fresh = iota
		open
		done
	)
	state := make([]uint8, len(jobs))
	next := make([]int, len(jobs)) // the dependency to look at next
	var path []int
	for start := range jobs {
		if state[start] != fresh {
			continue
		}
		path = append(path[:0], start)
		state[start] = open
		for len(path) > 0 {
			i := path[len(path)-1]
			if next[i] == len(jobs[i].After) {
				state[i] = done
				path = path[:len(path)-1]
				continue
			}
			d := jobs[i].After[next[i]]
			next[i]++
			to, inside := c.ids[d.ID]
			if d.Index != nil {
				to, inside = *d.Index, true
			}
			if to -= len(c.Before); to < 0 {
				inside = false // what was checked before waits for none of these
			}
			switch {
			case !inside || state[to] == done:
			case state[to] == open:
				c.add("%s", circle(path[slices.Index(path, to):], len(c.Before)))
				return
			default:
				state[to] = open
				path = append(path, to)
			}
		}
	}
}

// circle puts it into words; the first of the jobs stands at base.
func circle(path []int, base int) string {
	var b strings.Builder
	b.WriteString("jobs wait for each other: ")
	for n, i := range path {
		if n == 10 {
			b.WriteString("… → ")
			break
		}
		fmt.Fprintf(&b, "%d → ", base+i)
	}
	fmt.Fprintf(&b, "%d", base+path[0])
	return b.String()
}
