package agent

import (
	"fmt"

	"github.com/vagoth/vagoth/virt/mistify"
)

// pipeline is an action with what is called for it.
type pipeline struct {
	action mistify.Action
	stages []step
}

type step struct {
	Stage
	service *service
	text    string // as people know it: "2/3 Libvirt.Create of libvirt"

	undoText string // the same of its undo
}

func openPipelines(cfg Config, services map[string]*service) (map[string]*pipeline, error) {
	pipelines := map[string]*pipeline{}
	for name, c := range cfg.Actions {
		action, err := mistify.ParseAction(name)
		if err != nil {
			return nil, err
		}
		p := &pipeline{action: action}
		for i, s := range c.Stages {
			text := fmt.Sprintf("%d/%d %s of %s", i+1, len(c.Stages), s.Method, s.Service)
			at := step{Stage: s, service: services[s.Service], text: text}
			if s.Undo != "" {
				at.undoText = undoWord + fmt.Sprintf("%d/%d %s of %s", i+1, len(c.Stages), s.Undo, s.Service)
			}
			p.stages = append(p.stages, at)
		}
		pipelines[name] = p
	}
	return pipelines, nil
}

// pipeline finds what is done for an action to something of this type.
func (a *Agent) pipeline(kind, base string) (*pipeline, error) {
	name := mistify.ActionFor(kind, base)
	if p := a.actions[name]; p != nil {
		return p, nil
	}
	action, err := mistify.ParseAction(name)
	if err != nil {
		return nil, err
	}
	return nil, &UnconfiguredError{Action: name, Addition: action.Addition}
}
