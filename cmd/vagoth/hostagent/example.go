package hostagent

import (
	"fmt"
	"io"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/subagent"
)

// WriteExample writes the section [agent] with every key as a comment, sub-agents
// of the menu inside the process, and what they do for every action: what is
// meant where a file has none of these sections.
func WriteExample(w io.Writer, menu Menu, names []string) error {
	all := component.Describe("vagoth agent: how the agent of this host is reached and how it behaves", defaults())
	if err := component.WriteExample(w, component.Example{Section: "agent", Of: all}); err != nil {
		return err
	}
	var services []subagent.Service
	for _, name := range names {
		if _, err := fmt.Fprintf(w, "\n; inside the process, as it has neither a port nor a socket\n[agent.service.%s]\n", name); err != nil {
			return err
		}
		if err := component.WriteExample(w, component.Example{Section: "subagent." + name, Of: menu.SubAgents[name]}); err != nil {
			return err
		}
		services = append(services, subagent.Service{Name: name, Stages: menu.Stages[name]})
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return subagent.WriteConfig(w, subagent.Combine(services...))
}
