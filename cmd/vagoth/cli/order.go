package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// order is one action for several nodes, each a job of its own.
type order struct {
	bulk *bulk
	wait *waiting

	action     string
	params     registry.Document // for all
	vms        bool              // it is a built-in action of VMs, which takes vm
	keepQueued bool
	logs       bool // what the jobs log is shown

	prepare func(ctx context.Context, client *api.Client) error // completes it, once the cluster is reached; may be nil
}

// orderChunk is how many jobs are queued in one package.
const orderChunk = 500

// run queues the jobs, waits for all of them together, and reports.
func (o *order) run(cmd *cobra.Command, names []string) error {
	o.bulk.before = o.wait.check
	return o.bulk.on(cmd, names, func(ctx context.Context, client *api.Client, items []api.Item) error {
		if o.prepare != nil {
			if err := o.prepare(ctx, client); err != nil {
				return err
			}
		}
		if err := o.findHosts(ctx, client); err != nil {
			return err
		}
		a, progress := o.bulk.app, o.bulk.app.progress(len(items))
		out := make([]outcome, len(items))
		jobs := make([]*awaited, len(items))
		for i, it := range items {
			jobs[i] = &awaited{name: it.Node.Name()}
		}
		o.submit(ctx, client, items, jobs, func(i int) {
			if jobs[i].err != nil || jobs[i].st.State.Ended() {
				out[i] = o.ended(ctx, client, items[i], jobs[i])
				progress.step(out[i].err != nil)
			}
		})
		var queued []*awaited
		index := map[*awaited]int{}
		for i, j := range jobs {
			switch {
			case j.err != nil || j.st.State.Ended():
			case o.wait.not:
				out[i] = outcome{result: j.st, name: j.st.ID, words: "queued as " + j.st.ID, known: true}
			default:
				queued = append(queued, j)
				index[j] = i
			}
		}
		err := a.await(ctx, client, progress, queued, func(j *awaited) {
			i := index[j]
			out[i] = o.ended(ctx, client, items[i], j)
			progress.step(out[i].err != nil)
		})
		progress.end()
		if err == nil {
			return o.bulk.report(items, out)
		}
		err = a.given(ctx, client, queued)
		return errors.Join(o.settledOnly(items, jobs, out), err)
	})
}

// settledOnly reports what is known of when the rest was given up.
func (o *order) settledOnly(items []api.Item, jobs []*awaited, out []outcome) error {
	var some []api.Item
	var known []outcome
	for i, j := range jobs {
		if !out[i].known && j.over() {
			out[i] = outcome{result: j.st, words: o.bulk.how, err: j.failure(), known: true}
		}
		if out[i].known {
			some, known = append(some, items[i]), append(known, out[i])
		}
	}
	if len(some) == 0 {
		return nil
	}
	return o.bulk.report(some, known)
}

// findHosts replaces the names of hosts by their IDs, as a package needs them.
func (o *order) findHosts(ctx context.Context, client *api.Client) error {
	if !o.vms {
		return nil
	}
	var p virt.Params
	if err := o.params.Decode(&p); err != nil {
		return err
	}
	for _, host := range []*string{&p.Host, &p.To} {
		if *host == "" {
			continue
		}
		it, err := client.Node(ctx, *host)
		if err != nil {
			return err
		}
		*host = it.Node.ID()
	}
	var err error
	o.params, err = registry.NewDocument(p)
	return err
}

// submit queues one job for each node and calls queued for each, several at
// once. Virtual machines go in packages if the scheduler has queues; one that
// runs jobs in its caller is given them one by one, some at once.
func (o *order) submit(ctx context.Context, client *api.Client, items []api.Item, jobs []*awaited, queued func(i int)) {
	var single, packed []int
	queues := o.vms && hasQueues(ctx, client)
	for i, it := range items {
		if queues && it.Node.Type() == vmOnly {
			packed = append(packed, i)
		} else {
			single = append(single, i)
		}
	}
	for len(packed) > 0 && ctx.Err() == nil {
		chunk := packed[:min(len(packed), orderChunk)]
		packed = packed[len(chunk):]
		o.submitPackage(ctx, client, items, jobs, chunk, queued)
	}
	for _, i := range packed {
		jobs[i].err = context.Cause(ctx)
		queued(i)
	}
	var g errgroup.Group
	g.SetLimit(o.bulk.parallel)
	for _, i := range single {
		g.Go(func() error {
			jobs[i].st, jobs[i].err = o.submitOne(ctx, client, items[i])
			queued(i)
			return nil
		})
	}
	_ = g.Wait()
}

// hasQueues reports whether jobs are queued, and not run in their caller.
func hasQueues(ctx context.Context, client *api.Client) bool {
	_, err := client.Stats(ctx)
	return err == nil
}

// submitPackage queues the jobs of some nodes at once. A package of which one
// job is refused is refused as a whole; then each stands for itself.
func (o *order) submitPackage(ctx context.Context, client *api.Client, items []api.Item, jobs []*awaited, chunk []int, queued func(i int)) {
	var p scheduler.Package
	for _, i := range chunk {
		j, err := o.job(items[i])
		if err != nil {
			jobs[i].err = err
		}
		p.Jobs = append(p.Jobs, j)
	}
	list, err := patiently(ctx, o.bulk.app, func() ([]scheduler.Status, error) { return client.Submit(ctx, p) })
	refused := errors.Is(err, scheduler.ErrInvalid) || errors.Is(err, scheduler.ErrConflict) || errors.Is(err, scheduler.ErrNotFound) || errors.Is(err, registry.ErrTooLarge)
	if refused && len(chunk) > 1 {
		for _, i := range chunk {
			o.submitPackage(ctx, client, items, jobs, []int{i}, queued)
		}
		return
	}
	if err == nil && len(list) != len(chunk) {
		err = errors.New("the server answered with another number of jobs than it was given: is it a vagoth of another version?")
	}
	for k, i := range chunk {
		if err != nil {
			jobs[i].err = err
		} else {
			jobs[i].st = list[k]
		}
		queued(i)
	}
}

// job is the one for the node.
func (o *order) job(it api.Item) (scheduler.Job, error) {
	params, err := o.params.Merge(map[string]any{"vm": it.Node.ID()})
	j := scheduler.Job{Queue: it.Node.ID(), Action: o.action, Params: params, KeepQueued: o.keepQueued}
	if host := it.Node.Parent(); host != "" && o.action != virt.ActionPoll {
		j.Limits = []string{scheduler.HostLimit(host)}
	}
	return j, err
}

func (o *order) submitOne(ctx context.Context, client *api.Client, it api.Item) (scheduler.Status, error) {
	params := o.params
	if o.vms {
		var err error
		if params, err = params.Merge(map[string]any{"vm": it.Node.ID()}); err != nil {
			return scheduler.Status{}, err
		}
	}
	return patiently(ctx, o.bulk.app, func() (scheduler.Status, error) {
		return client.Do(ctx, it.Node.ID(), api.JobRequest{Action: o.action, Params: params})
	})
}

// patiently submits, and again as long as too much is queued.
func patiently[T any](ctx context.Context, a *app, submit func() (T, error)) (T, error) {
	for first := true; ; first = false {
		v, err := submit()
		var many *scheduler.TooManyError
		if !errors.As(err, &many) {
			return v, err
		}
		after := min(max(many.After, time.Second), 30*time.Second)
		if first {
			a.say("%s; trying again until there is room", err)
		}
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(after):
		}
	}
}

// ended is what is told of a job that has settled, or was refused.
func (o *order) ended(ctx context.Context, client *api.Client, it api.Item, j *awaited) outcome {
	a := o.bulk.app
	out := outcome{words: o.bulk.how, err: j.failure(), known: true}
	if j.st.ID != "" {
		out.result = j.st
	}
	if o.logs && j.st.ID != "" {
		lines, err := client.JobLog(ctx, j.st.ID)
		for _, l := range lines {
			a.say("%s: %s", it.Node.Name(), clean(l.Text))
		}
		if out.err == nil {
			out.err = err
		}
	}
	switch {
	case out.err != nil && o.vms:
		out.err = a.explainJob(ctx, client, it, out.err)
	case out.err == nil && o.vms:
		// That it is not found changes nothing: the job is done.
		if now, err := client.Node(ctx, it.Node.ID()); err == nil && now.ParentName != "" {
			out.words += " on " + now.ParentName
		}
	}
	return out
}
