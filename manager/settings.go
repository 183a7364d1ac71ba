package manager

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// Top are the keys above the first section of a vagoth.ini.
type Top struct {
	Data           component.Path `ini:"data" help:"directory of stores and socket; relative to this file"`
	CommandTimeout time.Duration  `ini:"command_timeout" help:"longest run of an action that is a command or a URL" min:"1s"`
}

// topSections are Top, and the sections that belong to no component.
type topSections struct {
	Top
	Actions map[string]ActionConfig `sections:"action" help:"what an action takes, and how it is run"`
}

// TopDefaults are the keys above the first section where the file is silent.
func TopDefaults() Top { return Top{Data: "vagoth-data", CommandTimeout: 10 * time.Minute} }

// Settings is a valid vagoth.ini, decoded, with nothing open yet.
type Settings struct {
	File    string
	Data    string // the data directory
	Choices []Chosen
	Daemon  Daemon // of [serve]

	registry    config.Choice[registry.Deps, registry.Registry]
	scheduler   config.Choice[scheduler.Deps, scheduler.Scheduler]
	provisioner config.Choice[provisioner.Deps, provisioner.Provisioner]
	allocator   config.Choice[allocator.Deps, allocator.Allocator]
	monitor     config.Choice[monitor.Deps, monitor.Monitor]
	drivers     []config.Instance[virt.DriverDeps, virt.Driver]
	types       map[string]provisioner.Class
	made        map[string]func(builtin map[string]scheduler.Action) scheduler.Action // the file's actions
	builtin     func(virt.Cluster) map[string]scheduler.Action
	text        map[[2]string]string // the file as it stands, by section and key
}

// Chosen is one decision of the file.
type Chosen struct{ Section, Kind string }

// Read checks the file against the menu. Its error is a *config.Error with
// everything that is wrong; nothing has been opened.
func Read(f *config.File, menu Menu) (*Settings, error) {
	top := config.Section(f, "", topSections{Top: TopDefaults()})
	s := &Settings{
		File:        f.Name(),
		Data:        string(top.Data),
		registry:    config.Select(f, "registry", menu.Defaults.Registry, menu.Registry),
		scheduler:   config.Select(f, "scheduler", menu.Defaults.Scheduler, menu.Scheduler),
		provisioner: config.Select(f, "provisioner", menu.Defaults.Provisioner, menu.Provisioner),
		allocator:   config.Select(f, "allocator", menu.Defaults.Allocator, menu.Allocator),
		monitor:     config.Select(f, "monitor", menu.Defaults.Monitor, menu.Monitor),
		drivers:     config.Instances(f, "drivers", "", menu.Drivers),
		builtin:     menu.Actions,
	}
	if s.builtin == nil {
		s.builtin = func(virt.Cluster) map[string]scheduler.Action { return nil }
	}
	if !filepath.IsAbs(s.Data) {
		s.Data = filepath.Join(f.Dir(), s.Data)
	}
	s.readDaemon(f)
	s.readTypes(f, menu)
	s.readActions(f, menu, top)
	f.Claim("agent", "agent.service.*", "agent.action.*", "subagent.*") // of `vagoth agent`, which one file can serve too
	if err := f.Err(); err != nil {
		return nil, err
	}
	s.Choices = []Chosen{
		{"registry", s.registry.Kind}, {"scheduler", s.scheduler.Kind}, {"provisioner", s.provisioner.Kind},
		{"allocator", s.allocator.Kind}, {"monitor", s.monitor.Kind},
	}
	for _, d := range s.drivers {
		s.Choices = append(s.Choices, Chosen{"drivers." + d.Name, d.Kind})
	}
	return s, nil
}

func (s *Settings) readTypes(f *config.File, menu Menu) {
	s.types = map[string]provisioner.Class{}
	names := maps.Clone(menu.Types)
	if names == nil {
		names = map[string]string{}
	}
	for _, e := range f.Entries("node_types") {
		if err := registry.CheckName(e.Key); err != nil {
			f.ReportAt("node_types", e, fmt.Sprintf("%.64q cannot be a node type: %s", e.Key, err), "")
			continue
		}
		class, ok := menu.Classes[e.Value]
		switch {
		case !ok:
			f.ReportAt("node_types", e, fmt.Sprintf("%s: there is no class %.64q", e.Key, e.Value), choices(e.Value, menu.Classes))
			continue
		case class.Only != "" && class.Only != e.Key:
			f.ReportAt("node_types", e, fmt.Sprintf("%s: the class %s is for the type %s alone", e.Key, e.Value, class.Only), "")
			continue
		}
		names[e.Key] = e.Value
	}
	for typ, class := range names {
		c, ok := menu.Classes[class]
		if !ok {
			f.Report(component.Problem{Section: "node_types", Reason: fmt.Sprintf("this program maps the type %s to the class %q, which it does not have", typ, class)})
			continue
		}
		s.types[typ] = c
	}
}

func choices[V any](word string, of map[string]V) string {
	if len(of) == 0 {
		return "there are none"
	}
	all := "there are " + strings.Join(slices.Sorted(maps.Keys(of)), ", ")
	if s := component.DidYouMean(word, maps.Keys(of)); s != "" {
		return s + " " + all
	}
	return all
}
