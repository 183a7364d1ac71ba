package cli

import (
	"maps"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
)

// jobs are those that have not ended, and the newest that have.
func (c *completion) jobs() { c.jobsIn(append(unsettled(), ends()...)...) }

// parked are those that wait for a decision.
func (c *completion) parked() { c.jobsIn(scheduler.Parked) }

// alive are those that can be cancelled.
func (c *completion) alive() { c.jobsIn(unsettled()...) }

// again are those that can be tried again.
func (c *completion) again() {
	c.jobsIn(scheduler.Parked, scheduler.Failed, scheduler.Cancelled, scheduler.Expired)
}

func (c *completion) jobsIn(states ...scheduler.State) {
	c.askJobs(func(client *api.Client) {
		list, err := client.Jobs(c.ctx, scheduler.Filter{States: states, Limit: completeMost})
		if err != nil {
			return
		}
		for _, st := range list {
			c.add(clean(string(st.State)+" "+st.Action+" "+st.Queue), st.ID)
		}
	})
}

// queues are those that are known, and those of vagoth.ini.
func (c *completion) queues() {
	c.add("", c.named("queue")...)
	c.askJobs(func(client *api.Client) {
		for q, err := range client.Queues(c.ctx) {
			if err != nil || !c.add(string(q.Mode), q.Name) {
				return
			}
		}
	})
}

func (c *completion) limits() { c.add("", c.named("limit")...) }

func (c *completion) packages() { c.packagesIn() }

func (c *completion) building() { c.packagesIn(scheduler.Building) }

func (c *completion) packagesIn(states ...scheduler.PackageState) {
	c.askJobs(func(client *api.Client) {
		for p, err := range client.Packages(c.ctx, completeMost, states...) {
			if err != nil || !c.add(string(p.State), p.ID) {
				return
			}
		}
	})
}

// params are the parameters of the action that is named before, as vagoth.ini
// or the action itself declares them.
func (c *completion) params() {
	c.directive |= cobra.ShellCompDirectiveNoSpace
	name := c.action
	if name == "" && len(c.args) > 0 {
		name = c.args[0]
	}
	var list manager.ParamList
	if f := c.file(); f != nil {
		for _, e := range f.Entries("action." + name) {
			if e.Key == "params" {
				_ = list.UnmarshalText([]byte(e.Value)) // what is wrong there is said by other commands
			}
		}
	}
	if c.app.menu.Actions != nil {
		list.Params = append(list.Params, c.app.menu.Actions(nil)[name].Params...)
	}
	for _, p := range list.Params {
		text := string(p.Type)
		if p.Required {
			text += ", required"
		}
		c.add(text, p.Name+"=")
	}
}

// jobPlaces are the places of the commands about jobs, queues and packages.
func jobPlaces() map[string][]place {
	jobs := func(find func(*completion)) []place { return []place{{find: find, repeat: true}} }
	queues := []place{{find: (*completion).queues, repeat: true}}
	return map[string][]place{
		"jobs show":       {{find: (*completion).jobs}},
		"jobs watch":      jobs((*completion).alive),
		"jobs log":        {{find: (*completion).jobs}},
		"jobs cancel":     jobs((*completion).alive),
		"jobs retry":      jobs((*completion).again),
		"jobs skip":       jobs((*completion).parked),
		"jobs done":       jobs((*completion).parked),
		"queue show":      {{find: (*completion).queues}},
		"queue pause":     queues,
		"queue resume":    queues,
		"queue drain":     queues,
		"package add":     {{find: (*completion).building}},
		"package enqueue": {{find: (*completion).building}},
		"package status":  {{find: (*completion).packages}},
		"package cancel":  {{find: (*completion).packages}},
	}
}

// jobFlagPlaces are the places of their flags.
func jobFlagPlaces() map[string]place {
	return map[string]place{
		"--queue":             {find: (*completion).queues},
		"--action":            {find: (*completion).actions},
		"--package":           {find: (*completion).packages},
		"--file":              files("json", "yaml", "yml"),
		"--job":               {find: (*completion).jobs},
		"--after":             {find: (*completion).alive},
		"do --param":          {find: (*completion).params},
		"package add --param": {find: (*completion).params},
		"jobs list --state":   words(jobStates()...),
		"package add --limit": {find: (*completion).limits},
		"package add --key":   {}, // what they name is new
		"package new --id":    {},
		"events --cursor":     {},
	}
}

// merged is a with what b adds.
func merged[V any](a, b map[string]V) map[string]V {
	maps.Copy(a, b)
	return a
}
