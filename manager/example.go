package manager

import (
	"fmt"
	"io"

	"github.com/vagoth/vagoth/manager/component"
)

// WriteExample writes a vagoth.ini that names every component of the menu with
// all of its keys. As it stands it changes no default; what is not chosen is a
// comment.
func WriteExample(w io.Writer, menu Menu) error {
	top := component.Describe("", TopDefaults())
	if err := component.WriteExample(w, component.Example{Of: top}); err != nil {
		return err
	}
	daemon := component.Describe("vagoth serve: how the daemon is reached and how it behaves", DaemonDefaults())
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := component.WriteExample(w, component.Example{Section: "serve", Of: daemon}); err != nil {
		return err
	}
	for _, c := range menu.Entries() {
		e := component.Example{Section: c.Contract, Of: c, Set: []component.Setting{{Key: "use", Value: c.Name}}}
		switch {
		case c.Name == "":
			e.Set = nil
		case c.Contract == "drivers" || c.Contract == "subagent":
			e.Section, e.Off = c.Contract+"."+c.Name, true
		case !c.Chosen:
			e.Section, e.Set, e.Off = c.Contract+"."+c.Name, nil, true
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := component.WriteExample(w, e); err != nil {
			return err
		}
	}
	return nil
}
