package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
	"github.com/vagoth/vagoth/trail"
)

// ref names an attempt.
type ref struct {
	Job   string      `json:"job"`
	Token trail.Token `json:"token"`
}

// crew is the managers as those who call functions, seen from the one that leads.
// A manager stands in it from its Run on, or since it had a job under another
// leader, until its session ends.
type crew struct {
	s       *Scheduler
	session *session
	driving sync.WaitGroup
	failed  chan struct{} // closed when this manager has left its office: the engine writes nothing more

	mu       sync.Mutex
	engine   *engine.Engine
	alive    map[string]member
	revision int64 // as of which
	hands    map[string]*hand
	calls    map[ref]*call
	unheard  map[ref]chan struct{} // answers that the log does not have yet; closed when it has
	members  int                   // that the engine knows to take jobs
	going    bool                  // this manager ends, and leaves the attempts of others to who leads next
	change   chan struct{}         // closed when hands come or go, or the engine knows
}

// hand is a manager that works, or has work of before.
type hand struct {
	name      string
	active    bool // it takes more
	submitted bool // only what was submitted through its manager
	jobs      int
	joined    bool             // it has told what it has
	has       map[ref]bool     // that
	early     map[ref]*answer  // of attempts that nobody asks for yet
	orders    []order          // not sent yet
	more      chan struct{}    // has room for one: there are orders
	gone      chan struct{}    // closed when its session has ended
	freed     []chan struct{}  // closed when jobs is 0
	own       map[*call]func() // ends those that run in this process
}

// order is what the leader tells a manager.
type order struct {
	Begin  *scheduler.Job `json:"begin,omitempty"`
	Cancel *cause         `json:"cancel,omitempty"`
	Ref    ref            `json:"ref"`
}

// call is an attempt in the hands of another manager.
type call struct {
	by     *hand
	task   scheduler.Task
	answer chan *answer // has room for one
	heard  uint64       // the last of what it told
}

func newCrew(s *Scheduler, v *session, alive map[string]member) *crew {
	return &crew{
		s: s, session: v, alive: alive, hands: map[string]*hand{}, calls: map[ref]*call{},
		unheard: map[ref]chan struct{}{}, change: make(chan struct{}), failed: make(chan struct{}),
	}
}

// take begins to drive the engine.
func (c *crew) take(e *engine.Engine) {
	c.mu.Lock()
	c.engine = e
	for name, n := range e.Attempts() { // begun under another leader
		c.hand(name).jobs = n
	}
	c.mu.Unlock()
	c.driving.Go(c.drive)
}

// hand finds a manager. The caller holds the mutex.
func (c *crew) hand(name string) *hand {
	h := c.hands[name]
	if h == nil {
		h = &hand{name: name, has: map[ref]bool{}, early: map[ref]*answer{}, more: make(chan struct{}, 1), gone: make(chan struct{}), own: map[*call]func(){}}
		c.hands[name] = h
		if _, ok := c.alive[name]; !ok {
			close(h.gone)
		}
	}
	return h
}

// seen is told who lives, as of a revision of etcd.
func (c *crew) seen(alive map[string]member, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision < c.revision {
		return
	}
	c.revision = revision
	for name, h := range c.hands {
		_, was := c.alive[name]
		_, is := alive[name]
		if was && is {
			continue
		}
		if was {
			h.active = false
			close(h.gone)
		}
		if is || len(h.early) == 0 { // else what it said still counts
			delete(c.hands, name)
		}
	}
	c.alive = alive
	c.changed()
}

// changed is called when hands came or went. The caller holds the mutex.
func (c *crew) changed() {
	close(c.change)
	c.change = make(chan struct{})
}

// state is how many take jobs, and whether all of them only want what was submitted
// through them. The caller holds the mutex.
func (c *crew) state() (active int, submitted bool) {
	submitted = true
	for _, h := range c.hands {
		if h.active {
			active++
			submitted = submitted && h.submitted
		}
	}
	return active, submitted
}

// drive runs the engine as long as the term lasts, also while nobody works: answers of
// those who worked under another leader may still come.
func (c *crew) drive() {
	alive := c.session.alive
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.engine.Run(alive, scheduler.RunOptions{}); err != nil && alive.Err() == nil && c.s.closing.Err() == nil {
			c.session.end(fmt.Errorf("the engine: %w", err)) // another term begins with what is stored
		}
	}()
	for {
		c.mu.Lock()
		active, submitted := c.state()
		change := c.change
		c.mu.Unlock()
		c.engine.Members(active, submitted)
		c.known(active)
		select {
		case <-change:
		case <-ended:
			c.known(0)
			return
		}
	}
}

// known says how many the engine knows to take jobs.
func (c *crew) known(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members != n {
		c.members = n
		c.changed()
	}
}

// Choose implements engine.Crew: jobs spread over those who work, and the jobs of a
// queue that nobody keeps busy tend to the same one.
func (c *crew) Choose(queue string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var best *hand
	var weight uint64
	for _, h := range c.hands {
		if !h.active || best != nil && h.jobs > best.jobs {
			continue
		}
		if w := weigh(queue, h.name); best == nil || h.jobs < best.jobs || w > weight {
			best, weight = h, w
		}
	}
	if best == nil {
		return ""
	}
	best.jobs++
	return best.name
}

// Over implements engine.Crew.
func (c *crew) Over(name, job string, token trail.Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hear(ref{job, token})
	h := c.hands[name]
	if h == nil {
		return
	}
	if h.jobs--; h.jobs <= 0 {
		for _, ch := range h.freed {
			close(ch)
		}
		h.freed = nil
	}
}

var errNobody = fmt.Errorf("no manager works: it is %w", scheduler.ErrHandedBack)

// Alive implements engine.Crew.
func (c *crew) Alive() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.alive))
}

// Call implements engine.Crew.
func (c *crew) Call(ctx context.Context, k engine.Call) (any, error) {
	if k.Member == "" {
		return nil, errNobody
	}
	c.mu.Lock()
	h := c.hand(k.Member)
	c.mu.Unlock()
	at := ref{k.Job.ID, k.Job.Trail.Token}
	if h.name == c.session.name && !k.Again {
		return c.here(ctx, h, k)
	}
	return c.there(ctx, h, at, k)
}

// here calls the function in this process. If that dies, the attempt is nobody's any
// more, whether or not it is known, so nothing is written first.
func (c *crew) here(ctx context.Context, h *hand, k engine.Call) (any, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	mine := &call{}
	c.mu.Lock()
	if !h.active {
		c.mu.Unlock()
		return nil, errNobody
	}
	h.own[mine] = func() { cancel(errStopping) }
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(h.own, mine)
	}()
	result, err := c.s.deps.Actions[k.Job.Action].Run(ctx, k.Task)
	return result, back(ctx, err)
}

// errStopping is the cause with which functions are told that their manager ends.
var errStopping = fmt.Errorf("the program ends, the job is %w", scheduler.ErrHandedBack)

// back makes the error of a function that stopped for the end of its manager one
// that gives its job back.
func back(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), scheduler.ErrHandedBack) && (errors.Is(err, scheduler.ErrHandedBack) || errors.Is(err, context.Canceled)) {
		return fmt.Errorf("%w: %w", errStopping, err)
	}
	return err
}

// record has a hand-out in etcd.
func record(k engine.Call) error {
	if err := k.Record(context.Background()); err != nil {
		return fmt.Errorf("%w: its hand-out cannot be written: %w", engine.ErrLost, err)
	}
	return nil
}

// there lets another manager call it, or asks who has begun it under another leader.
func (c *crew) there(ctx context.Context, h *hand, at ref, k engine.Call) (any, error) {
	if !k.Again { // whoever takes over from here must know of it
		if err := record(k); err != nil {
			return nil, err
		}
	}
	mine := &call{by: h, task: k.Task, answer: make(chan *answer, 1)}
	c.mu.Lock()
	switch early := h.early[at]; {
	case early != nil:
		mine.answer <- early
		delete(h.early, at)
	case k.Again && h.joined && !h.has[at]:
		c.mu.Unlock()
		return nil, engine.ErrNotBegun
	case !k.Again:
		h.has[at] = true
		h.order(order{Begin: &k.Job, Ref: at})
	}
	c.calls[at] = mine
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.calls, at)
		delete(h.has, at)
	}()
	ended := ctx.Done()
	for {
		select {
		case a := <-mine.answer:
			return a.back()
		case <-h.gone:
			select {
			case a := <-mine.answer: // its last word
				return a.back()
			default:
				return nil, engine.ErrLost
			}
		case <-c.session.alive.Done():
			return nil, engine.ErrLost // whoever leads next asks again
		case <-ended:
			ended = nil
			c.mu.Lock()
			going := c.going || c.session.alive.Err() != nil
			if !going {
				h.order(order{Cancel: newCause(context.Cause(ctx)), Ref: at})
			}
			c.mu.Unlock()
			if going { // whoever leads next asks again, and nothing is to be written of it here
				select {
				case <-c.failed:
				case <-c.session.alive.Done():
				}
				return nil, engine.ErrLost
			}
		}
	}
}

// order tells the manager something, in order. The caller holds the crew's mutex.
func (h *hand) order(o order) {
	h.orders = append(h.orders, o)
	select {
	case h.more <- struct{}{}:
	default:
	}
}

// join is the beginning of a manager's work. It has these attempts from before, and
// is given what there is to do until ctx ends.
func (c *crew) join(ctx context.Context, name string, submitted bool, has []ref, send func(order) error) error {
	c.mu.Lock()
	if _, ok := c.alive[name]; !ok {
		c.mu.Unlock()
		return fmt.Errorf("%w: its session is not known (yet)", errGone)
	}
	h := c.hand(name)
	h.active, h.submitted = true, submitted
	c.told(h, has)
	c.changed()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		h.active = false
		c.changed()
	}()
	for {
		c.mu.Lock()
		list := h.orders
		h.orders = nil
		c.mu.Unlock()
		for _, o := range list {
			if err := send(o); err != nil {
				return err
			}
		}
		select {
		case <-h.more:
		case <-h.gone:
			return errGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// told takes what a manager has. What it does not have it was never told of: it keeps
// what it has begun until the end of that is in the log. The caller holds the mutex.
func (c *crew) told(h *hand, has []ref) {
	told := map[ref]bool{}
	for _, at := range has {
		told[at] = true
	}
	for at, k := range c.calls {
		if k.by == h && !told[at] && len(k.answer) == 0 {
			k.answer <- &answer{Unbegun: true}
		}
	}
	h.joined, h.has = true, told
	h.orders = slices.DeleteFunc(h.orders, func(o order) bool { return !told[o.Ref] })
}

// bye is the end of a manager's work of which the one who led then was not told: it has
// nothing, and will take nothing.
func (c *crew) bye(ctx context.Context, name string) error {
	c.mu.Lock()
	c.told(c.hand(name), nil)
	c.mu.Unlock()
	return c.left(ctx, name)
}

// left is the end of a manager's work: it returns when all that it had has ended, or
// ctx has.
func (c *crew) left(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hand(name)
	h.active = false
	for _, end := range h.own {
		end()
	}
	c.changed()
	wait := func(until <-chan struct{}) error {
		c.mu.Unlock()
		defer c.mu.Lock()
		select {
		case <-until:
			return nil
		case <-c.session.alive.Done():
			return errGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if h.jobs > 0 {
		freed := make(chan struct{})
		h.freed = append(h.freed, freed)
		if err := wait(freed); err != nil {
			return err
		}
	}
	for { // until the engine knows, if it was the last
		if active, _ := c.state(); active > 0 || c.members == 0 {
			return nil
		}
		if err := wait(c.change); err != nil {
			return err
		}
	}
}

// hear says that the log has the end of an attempt. The caller holds the mutex.
func (c *crew) hear(at ref) {
	if heard := c.unheard[at]; heard != nil {
		close(heard)
		delete(c.unheard, at)
	}
}

// leave says that this manager will not lead any more, and works no more itself.
// Attempts of others go on, and whoever leads next has them.
func (c *crew) leave() {
	held := c.engine.Attempts()
	c.mu.Lock()
	active, _ := c.state()
	going := active > 0 || len(held) > 0
	c.going = going
	c.mu.Unlock()
	if going {
		c.engine.Fail(errLeaving)
	}
	close(c.failed)
}

// answered takes what became of an attempt, also when nobody has asked for it yet. It
// returns when the log has it: until then whoever has the answer keeps it, for the next
// leader.
func (c *crew) answered(ctx context.Context, name string, at ref, a *answer) error {
	c.mu.Lock()
	if k := c.calls[at]; k != nil {
		if len(k.answer) == 0 {
			k.answer <- a
		}
	} else if h := c.hand(name); h.has[at] || !h.joined {
		h.early[at] = a
	}
	heard := c.unheard[at]
	if heard == nil {
		heard = make(chan struct{})
		c.unheard[at] = heard
	}
	c.mu.Unlock()
	if !c.engine.Holds(at.Job, at.Token) { // it had ended before
		c.mu.Lock()
		c.hear(at)
		if h := c.hands[name]; h != nil {
			delete(h.early, at)
		}
		c.mu.Unlock()
	}
	select {
	case <-heard:
		return nil
	case <-c.session.alive.Done():
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tells takes what a function says. What was heard already is passed over.
func (c *crew) tells(at ref, list []told) {
	c.mu.Lock()
	k := c.calls[at]
	if k == nil {
		c.mu.Unlock()
		return
	}
	var news []told
	for _, t := range list {
		if t.Number > k.heard {
			k.heard = t.Number
			news = append(news, t)
		}
	}
	c.mu.Unlock()
	for _, t := range news {
		if t.Line {
			k.task.Log(t.Text)
		} else {
			k.task.Progress(t.Percent, t.Text)
		}
	}
}

// limits has an attempt take limits.
func (c *crew) limits(ctx context.Context, at ref, names []string) error {
	c.mu.Lock()
	k := c.calls[at]
	c.mu.Unlock()
	if k == nil {
		return fmt.Errorf("%w: no attempt %s of job %.64s runs", scheduler.ErrStale, at.Token, at.Job)
	}
	return scheduler.TakeLimits(ctx, k.task, names...)
}

// answer is what became of an attempt.
type answer struct {
	Result registry.Document `json:"result,omitzero"`
	Err    *farError         `json:"err,omitempty"`
	Final  bool              `json:"final,omitempty"`
	Back   bool              `json:"back,omitempty"`
	// Unbegun is of an attempt of which nobody was told.
	Unbegun bool `json:"-"`
}

// back gives what the function returned.
func (a *answer) back() (any, error) {
	switch {
	case a.Unbegun:
		return nil, engine.ErrNotBegun
	case a.Back:
		return nil, errStopping
	case a.Err == nil:
		return a.Result, nil
	case a.Final:
		return nil, &scheduler.FinalError{Err: a.Err}
	}
	return nil, a.Err
}
