package hostagent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/subagent"
)

// Net is how the agent is reached and how it behaves: the keys of [agent] beside
// those of agent.Config.
type Net struct {
	TLSCert  component.Path `ini:"tls_cert" help:"certificate of the agent, with those that signed it, in PEM"`
	TLSKey   component.Path `ini:"tls_key" help:"its key, in PEM"`
	ClientCA component.Path `ini:"client_ca" help:"certificates, in PEM, that sign those of clients; vagoth token says which are let in"`
	Tokens   component.Path `ini:"tokens" help:"file of what vagoth token lets in; naming it asks clients on loopback too who they are; off loopback it is tokens in the data directory if empty"`

	MaxConnections int           `ini:"max_connections" help:"connections at once" min:"1" max:"100000"`
	HeaderTimeout  time.Duration `ini:"header_timeout" help:"longest time for the headers of a request" min:"10ms" max:"1m"`
	BodyTimeout    time.Duration `ini:"body_timeout" help:"longest pause while a request's body is sent, or an answer is read" min:"10ms" max:"10m"`
	IdleTimeout    time.Duration `ini:"idle_timeout" help:"longest time that a connection stays open between two requests" min:"10ms" max:"1h"`

	ShutdownTimeout time.Duration `ini:"shutdown_timeout" help:"longest time for requests to end when the agent does; jobs have stop_grace" min:"100ms" max:"1h"`
	LogLevel        string        `ini:"log_level" help:"what is logged; --log-level says otherwise" oneof:"debug,info,warn,error"`
	LogFormat       string        `ini:"log_format" help:"how it is logged; --log-format says otherwise" oneof:"text,json"`
}

// section is all of [agent].
type section struct {
	agent.Config
	Net
}

func defaults() section {
	return section{Config: agent.Defaults(), Net: Net{
		MaxConnections: 8192,
		HeaderTimeout:  5 * time.Second, BodyTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ShutdownTimeout: 30 * time.Second, LogLevel: "info", LogFormat: "text",
	}}
}

// Menu is what can be inside the process.
type Menu struct {
	SubAgents map[string]component.Kind[subagent.Deps, subagent.SubAgent]
	Stages    map[string][]subagent.Stage // what each of them does
	Default   []string                    // those of an agent that names none
}

// Settings is a valid configuration, with nothing open yet.
type Settings struct {
	Agent    agent.Config
	Net      Net
	Data     string   // the data directory
	Warnings []string // of an agent.json

	inside []inside
	menu   Menu
	text   map[[2]string]string // what can be changed, as it stands, by section and key
}

// inside is a service that a sub-agent in this process answers for.
type inside struct {
	service string
	kind    string
	open    component.Opener[subagent.Deps, subagent.SubAgent]
}

// Source says where the configuration is. The zero Source is a default agent.
type Source struct {
	INI     string // path of a vagoth.ini; "" is none
	Mistify string // path of an agent.json of Mistify; "" is none
	Listen  string // comes before what the files say
	Data    string // the same
}

// Read reads the files. The sections of services and actions are the INI's, or
// what the agent.json says instead. Where there are no actions they are those that
// the services are good for, and where there are no services either those are the
// default ones, inside the process.
func Read(src Source, menu Menu) (*Settings, error) {
	f, _ := config.Parse("vagoth.ini", nil)
	var err error
	if src.INI != "" {
		if f, err = config.Load(src.INI); err != nil {
			return nil, err
		}
	}
	s := &Settings{menu: menu, text: map[[2]string]string{}}
	s.readINI(f, src.Mistify == "")
	if err := f.Err(); err != nil {
		return nil, err
	}
	if src.Mistify != "" {
		if err := s.readMistify(src.Mistify); err != nil {
			return nil, err
		}
	}
	if src.Listen != "" {
		s.Agent.Listen = src.Listen
	}
	if src.Data != "" {
		s.Data, s.Agent.Store = src.Data, ""
	}
	if err := s.Agent.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return s, nil
}

// readINI reads an ini file. What it leaves out of services and actions is filled
// in if it is the only file.
func (s *Settings) readINI(f *config.File, alone bool) {
	top := config.Section(f, "", struct {
		Data component.Path `ini:"data" help:"directory of stores and socket; relative to this file"`
		// The manager's.
		CommandTimeout time.Duration `ini:"command_timeout" help:"of the manager"`
	}{Data: manager.TopDefaults().Data})
	s.Data = string(top.Data)
	if !filepath.IsAbs(s.Data) {
		s.Data = filepath.Join(f.Dir(), s.Data)
	}
	own := config.Section(f, "agent", defaults())
	s.Agent, s.Net = own.Config, own.Net
	if (own.TLSCert == "") != (own.TLSKey == "") {
		f.Report(component.Problem{File: f.Name(), Section: "agent", Reason: "tls_cert and tls_key go together: one of them is missing"})
	}
	if own.ClientCA != "" && own.TLSCert == "" {
		f.Report(component.Problem{File: f.Name(), Section: "agent", Key: "client_ca", Reason: "certificates of clients need TLS", Suggestion: "name tls_cert and tls_key"})
	}
	if alone && len(s.Agent.Actions)+len(s.Agent.Services) == 0 {
		s.Agent.Services = map[string]agent.ServiceConfig{}
		for _, name := range s.menu.Default {
			s.Agent.Services[name] = agent.ServiceConfig{}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Agent.Services)) {
		if c := s.Agent.Services[name]; c.Port == 0 && c.Socket == "" {
			s.readInside(f, name)
		}
	}
	if alone && len(s.Agent.Actions) == 0 {
		s.combine(f)
	}
	for _, section := range f.Sections() {
		name := section.Name
		if !ours(name) {
			f.Claim(name) // the manager's; it says what is wrong there
			continue
		}
		for _, e := range section.Entries {
			s.text[[2]string{name, e.Key}] = e.Raw
		}
	}
}

// ours reports whether a section is the agent's, or is meant to be.
func ours(section string) bool {
	head, _, _ := strings.Cut(section, ".")
	return head == "" || head == "agent" || head == "subagent"
}

// readInside takes [subagent.NAME] for a service that has no address: the kind
// that `use` names, or the one that is called as the service is.
func (s *Settings) readInside(f *config.File, name string) {
	kind, menu := name, s.menu.SubAgents
	at := "subagent." + name
	if _, ok := menu[name]; !ok {
		kind = ""
		if !f.Has(at) {
			kinds := strings.Join(slices.Sorted(maps.Keys(menu)), ", ")
			f.Report(component.Problem{File: f.Name(), Section: "agent.service." + name, Reason: "it has neither a port nor a socket, and this program has no sub-agent of that name",
				Suggestion: fmt.Sprintf("give it a port or a socket, or say in [%s] with `use` which it is: %s", at, kinds)})
			return
		}
	}
	choice := config.Select(f, at, kind, menu)
	s.inside = append(s.inside, inside{service: name, kind: choice.Kind, open: choice.Open})
}

// combine makes the actions of those that the services are good for: by their
// kind inside the process, by their name outside.
func (s *Settings) combine(f *config.File) {
	var services []subagent.Service
	for _, name := range slices.Sorted(maps.Keys(s.Agent.Services)) {
		kind := name
		if i := slices.IndexFunc(s.inside, func(in inside) bool { return in.service == name }); i >= 0 {
			kind = s.inside[i].kind
		}
		stages, known := s.menu.Stages[kind]
		if !known {
			f.Report(component.Problem{File: f.Name(), Section: "agent.service." + name, Reason: "nothing is known of what it does, and there is no section [agent.action.NAME]",
				Suggestion: "say in such sections what is called for which action; `vagoth agent example` shows some"})
			continue
		}
		services = append(services, subagent.Service{Name: name, Stages: stages})
	}
	s.Agent.Actions = actions(subagent.Combine(services...))
}

// actions are pipelines as the agent's config has them.
func actions(pipelines []subagent.Pipeline) map[string]agent.ActionConfig {
	all := map[string]agent.ActionConfig{}
	for _, p := range pipelines {
		var a agent.ActionConfig
		for _, c := range p.Calls {
			a.Stages = append(a.Stages, agent.Stage{Service: c.Service, Method: c.Method, Idempotent: c.Idempotent, Undo: c.Undo})
		}
		all[p.Action] = a
	}
	return all
}

// readMistify takes services, actions and dbpath of an agent.json.
func (s *Settings) readMistify(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the config of a Mistify agent: %w", err)
	}
	defer func() { _ = file.Close() }()
	var whole bytes.Buffer
	cfg, warnings, err := agent.ReadMistify(io.TeeReader(file, &whole))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s.Agent.Services, s.Agent.Actions, s.inside = cfg.Services, cfg.Actions, nil
	if cfg.Store != "" {
		s.Agent.Store = cfg.Store
		if !filepath.IsAbs(string(cfg.Store)) {
			s.Agent.Store = component.Path(filepath.Join(filepath.Dir(path), string(cfg.Store)))
		}
	}
	for _, w := range warnings {
		s.Warnings = append(s.Warnings, path+": "+w)
	}
	s.text[[2]string{path, ""}] = whole.String()
	return nil
}

// store is the directory of what the agent remembers.
func (s *Settings) store() string {
	if s.Agent.Store != "" {
		return string(s.Agent.Store)
	}
	return filepath.Join(s.Data, "agent")
}

// changed are the keys that differ, in order.
func (s *Settings) changed(next *Settings) []string {
	var keys []string
	for at, text := range s.text {
		if other, ok := next.text[at]; !ok || other != text {
			keys = append(keys, keyName(at))
		}
	}
	for at := range next.text {
		if _, ok := s.text[at]; !ok {
			keys = append(keys, keyName(at))
		}
	}
	slices.Sort(keys)
	return keys
}

func keyName(at [2]string) string {
	if at[1] == "" {
		return at[0]
	}
	return "[" + at[0] + "] " + at[1]
}

// errNobody is an agent that asks everybody who he is and knows nobody.
var errNobody = errors.New("nobody is let in: make a token with `vagoth token create`, or name client_ca and let certificates in with `vagoth token create --certificate`")
