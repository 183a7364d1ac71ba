package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// overview is what `vagoth status` shows.
type overview struct {
	Daemon bool                      `json:"daemon"`
	Server api.Version               `json:"server"`
	Nodes  map[string]map[string]int `json:"nodes"` // how many of each type are in each state

	Stats      *scheduler.Stats        `json:"stats,omitempty"` // of a scheduler that has queues
	Queues     []scheduler.QueueStatus `json:"queues"`          // that hold jobs or are not open, the deepest first
	QueuesMore int                     `json:"queues_more,omitempty"`
	Oldest     time.Time               `json:"oldest,omitzero"` // when the longest waiting job was submitted
	OldestIn   string                  `json:"oldest_in,omitempty"`

	Alarms     []nodeAlarm `json:"alarms"`
	AlarmsMore int         `json:"alarms_more,omitempty"`
}

// nodeAlarm is something that a person has to look at.
type nodeAlarm struct {
	Node string `json:"node"`
	Text string `json:"text"`
}

const (
	overviewQueues = 8
	overviewAlarms = 10
)

func statusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "show the cluster on one screen",
		Long: `Show the cluster on one screen: whether a daemon runs and what it is made of, how many
nodes of which type are in which state, what the queues hold, and what somebody has
to look at: hosts that do not answer, alarms of nodes, parked jobs.`,
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				o, err := a.overview(ctx, client)
				if err != nil {
					return err
				}
				return a.print(o, nil, func(w io.Writer) error { return a.printOverview(w, o) })
			})
		},
	}
}

func (a *app) overview(ctx context.Context, client *api.Client) (o overview, err error) {
	o = overview{Daemon: a.daemon(), Nodes: map[string]map[string]int{}, Queues: []scheduler.QueueStatus{}, Alarms: []nodeAlarm{}}
	if o.Server, err = client.Version(ctx); err != nil {
		return o, err
	}
	for it, err := range client.Nodes(ctx, registry.Query{}) {
		if err != nil {
			return o, err
		}
		o.count(it)
	}
	st, err := client.Stats(ctx)
	if errors.Is(err, scheduler.ErrUnsupported) {
		return o, nil // jobs run in the command that wants them: there is nothing to tell
	}
	if err != nil {
		return o, err
	}
	o.Stats = &st
	for q, err := range client.Queues(ctx) {
		if err != nil {
			return o, err
		}
		if !q.Oldest.IsZero() && (o.Oldest.IsZero() || q.Oldest.Before(o.Oldest)) {
			o.Oldest, o.OldestIn = q.Oldest, q.Name
		}
		if q.Depth+q.Parked > 0 || q.Running != "" || q.Mode != scheduler.Open {
			o.Queues = append(o.Queues, q)
		}
	}
	slices.SortStableFunc(o.Queues, func(a, b scheduler.QueueStatus) int {
		return cmp.Or(cmp.Compare(b.Depth+b.Parked, a.Depth+a.Parked), cmp.Compare(a.Name, b.Name))
	})
	if more := len(o.Queues) - overviewQueues; more > 0 {
		o.Queues, o.QueuesMore = o.Queues[:overviewQueues], more
	}
	return o, nil
}

// count adds a node, and what is wrong with it.
func (o *overview) count(it api.Item) {
	n := it.Node
	if o.Nodes[n.Type()] == nil {
		o.Nodes[n.Type()] = map[string]int{}
	}
	o.Nodes[n.Type()][n.State()]++
	text := it.Alarm
	if text == "" && n.Type() == virt.TypeHypervisor && n.State() == string(virt.Unreachable) {
		text = stateText(it)
	}
	switch {
	case text == "":
	case len(o.Alarms) == overviewAlarms:
		o.AlarmsMore++
	default:
		o.Alarms = append(o.Alarms, nodeAlarm{n.Name(), text})
	}
}

func (a *app) printOverview(w io.Writer, o overview) error {
	var rows [][2]string
	add := func(k, v string) { rows = append(rows, [2]string{k, clean(v)}) }
	if o.Daemon {
		add("daemon", "answers, version "+o.Server.Version)
	} else {
		add("daemon", "none: jobs are worked on only by the command that queues them, and nobody polls (vagoth serve)")
	}
	var uses []string
	for _, part := range []string{"registry", "scheduler", "provisioner", "allocator", "monitor"} {
		uses = append(uses, part+" "+dash(o.Server.Uses[part]))
	}
	add("made of", strings.Join(uses, ", "))
	if st := o.Server.Store; st != nil {
		add("store", storeText(*st, a.env.Now()))
		for _, e := range st.Engines {
			add(st.Engine, engineText(e))
		}
		for _, m := range st.Members {
			add("manager", managerText(m))
		}
	}
	if sh := o.Server.Shared; sh != nil {
		add("queues", queuesText(*sh))
	}
	if len(o.Nodes) == 0 {
		add("nodes", "none")
	}
	for _, typ := range slices.Sorted(maps.Keys(o.Nodes)) {
		add(typ, countStates(o.Nodes[typ]))
	}
	if st := o.Stats; st != nil {
		jobs := fmt.Sprintf("%d waiting, %d running, %d parked, %d ended", st.Waiting, st.Running, st.Parked, st.History)
		if st.Blocked > 0 {
			jobs = strings.Replace(jobs, "waiting", fmt.Sprintf("waiting (%d for others)", st.Blocked), 1)
		}
		add("jobs", jobs)
		if !o.Oldest.IsZero() {
			add("oldest", fmt.Sprintf("waits for %s, in the queue %s", ago(a.env.Now().Sub(o.Oldest)), o.OldestIn))
		}
		if st.Workers > 0 {
			add("workers", fmt.Sprintf("%d wait for a job", st.Workers))
		}
		if st.Parked > 0 {
			add("parked", fmt.Sprintf("%d wait for a decision: vagoth jobs list --state parked", st.Parked))
		}
	}
	for _, al := range o.Alarms {
		add("alarm", al.Node+": "+al.Text)
	}
	if o.AlarmsMore > 0 {
		add("alarm", fmt.Sprintf("and %d more: vagoth list", o.AlarmsMore))
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%-10s%s\n", r[0], r[1]); err != nil {
			return err
		}
	}
	if len(o.Queues) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := a.queueTable(w, o.Queues); err != nil {
		return err
	}
	if o.QueuesMore > 0 {
		_, err := fmt.Fprintf(w, "and %d more: vagoth queue list\n", o.QueuesMore)
		return err
	}
	return nil
}

// countStates is such as 4 running, 1 stopped: the most first.
func countStates(states map[string]int) string {
	names := slices.SortedFunc(maps.Keys(states), func(a, b string) int {
		return cmp.Or(cmp.Compare(states[b], states[a]), cmp.Compare(a, b))
	})
	for i, s := range names {
		if s == "" {
			names[i] = fmt.Sprint(states[s])
		} else {
			names[i] = fmt.Sprintf("%d %s", states[s], s)
		}
	}
	return strings.Join(names, ", ")
}

// storeText says whether what is shown is as of now.
func storeText(st api.Store, now time.Time) string {
	age := now.Sub(st.Contact).Round(time.Second)
	switch {
	case st.Error != "":
		return fmt.Sprintf("%s does not answer since %v, what is shown is as of then: %s", st.Engine, age, st.Error)
	case st.Head > st.Revision:
		return fmt.Sprintf("%s answers; of %d commits not all are seen here yet, up to %d", st.Engine, st.Head, st.Revision)
	default:
		return fmt.Sprintf("%s answers, and all that it holds is seen here", st.Engine)
	}
}

// queuesText says who leads the managers that work on the queues.
func queuesText(sh api.Shared) string {
	text := fmt.Sprintf("%d managers share them, and none leads yet", len(sh.Managers))
	for _, m := range sh.Managers {
		if m.Leads {
			text = fmt.Sprintf("%d managers share them, %s leads", len(sh.Managers), m.Host)
			if m.Self {
				text += " (this one)"
			}
		}
	}
	if len(sh.Managers) == 1 {
		text = strings.Replace(text, "1 managers share them", "1 manager has them", 1)
	}
	if sh.Error != "" {
		text += ", as it was seen last: " + sh.Error
	}
	return text
}

// engineText is how it stands with one member of what keeps the store.
func engineText(e registry.Engine) string {
	text := e.Name + " follows"
	if e.Leads {
		text = e.Name + " leads"
	}
	if e.Bytes > 0 {
		text += fmt.Sprintf(", %d MiB on its disk", (e.Bytes+1<<20-1)>>20)
	}
	if e.Behind > 0 {
		text += fmt.Sprintf(", %d entries behind", e.Behind)
	}
	if e.Error != "" {
		text = e.Name + ": " + e.Error
	}
	return text
}

// managerText names a process that has the store open, and what it does there.
func managerText(m registry.Member) string {
	text := memberText(m)
	if m.Self {
		text += ", which answers here"
	}
	if len(m.Works) > 0 {
		text += ": " + strings.Join(m.Works, ", ")
	}
	return text
}
