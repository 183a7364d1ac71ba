package hostagent

import (
	"fmt"
	"io"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/subagent"
)

// WriteExample writes the section [agent] with every key as a comment, and the
// sections that send all actions to a sub-agent inside the process.
func WriteExample(w io.Writer, service string, sub subagent.SubAgent) error {
	all := component.Describe("vagoth agent: how the agent of this host is reached and how it behaves", defaults())
	if err := component.WriteExample(w, component.Example{Section: "agent", Of: all}); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\n; inside the process, as it has neither a port nor a socket; its own keys stand in [subagent.%s]\n[agent.service.%s]\n\n", service, service); err != nil {
		return err
	}
	if c, ok := sub.(subagent.Configurer); ok {
		return c.WriteConfig(w, service)
	}
	return nil
}
