package subagent

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt/mistify"
)

// Stage is what a sub-agent does for one action.
type Stage struct {
	Action     string // one of mistify.Actions
	Method     string // SERVICE.METHOD
	Idempotent bool   // it may be done again when nobody knows whether it was done
	Undo       string // the method that takes it back; "" for none
	Turn       Turn
}

// Turn is when a stage is called among those of other sub-agents.
type Turn int

// The turns. What a guest stands on is made early and removed late.
const (
	Early  Turn = -1
	Middle Turn = 0
	Late   Turn = 1
)

// Service is a sub-agent that an agent asks, with what it can do.
type Service struct {
	Name   string // in the agent's config
	Stages []Stage
}

// Pipeline is an action with what is called for it, in order.
type Pipeline struct {
	Action string
	Calls  []Call
}

// Call is a stage of a service.
type Call struct {
	Service string
	Stage
}

// Combine makes the pipelines of an agent that has these services, in the order
// of mistify.Actions. Stages of one turn are called in the order of the services;
// a download, an upload or a console is that of the first service that has one.
func Combine(services ...Service) []Pipeline {
	var all []Pipeline
	for _, action := range mistify.Actions() {
		p := Pipeline{Action: action.Name}
		for _, s := range services {
			for _, stage := range s.Stages {
				if stage.Action == action.Name {
					p.Calls = append(p.Calls, Call{Service: s.Name, Stage: stage})
				}
			}
		}
		slices.SortStableFunc(p.Calls, func(a, b Call) int { return cmp.Compare(a.Turn, b.Turn) })
		if action.Type == mistify.Stream || action.Type == mistify.Upload || action.On == mistify.OnConsole {
			p.Calls = p.Calls[:min(1, len(p.Calls))]
		}
		if len(p.Calls) > 0 {
			all = append(all, p)
		}
	}
	return all
}

// WriteConfig writes pipelines as the sections [agent.action.NAME] of an ini
// file.
func WriteConfig(w io.Writer, pipelines []Pipeline) error {
	var b strings.Builder
	for _, p := range pipelines {
		fmt.Fprintf(&b, "[agent.action.%s]\nstages = ", p.Action)
		for i, c := range p.Calls {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s %s", c.Service, c.Method)
			if c.Idempotent {
				b.WriteString(" idempotent")
			}
			if c.Undo != "" {
				b.WriteString(" undo " + c.Undo)
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
