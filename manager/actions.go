package manager

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// ActionConfig is a section [action.NAME]: what there is to say of an action
// beside the line in [actions], which it can replace.
type ActionConfig struct {
	Run     string           `ini:"run" help:"a built-in action, exec:/path/of/a/program with arguments, an http(s) URL, or remote: done by workers outside" example:"exec:/usr/local/bin/notify"`
	Help    string           `ini:"help" help:"one line for people"`
	Params  ParamList        `ini:"params" help:"all that it takes, with ! what is required; without this key anything; types are string, integer, number, boolean, object, array, duration" example:"channel:string! count:integer"`
	Timeout time.Duration    `ini:"timeout" help:"longest run of one attempt; command_timeout if empty, none for remote" min:"100ms"`
	Grace   time.Duration    `ini:"grace" help:"time that a program has to end after SIGTERM, before it is killed; 5 seconds if empty" min:"100ms" max:"10m"`
	Urgent  YesNo            `ini:"urgent" help:"its jobs overtake those that wait in their queue"`
	Token   component.Secret `ini:"token" help:"sent to a URL as a bearer token"`
}

// ParamList are declared parameters, such as `name:string! size:integer`.
type ParamList struct {
	Declared bool // the key is there, if only with nothing in it
	Params   []scheduler.Param
}

// maxActionParams bounds how many parameters an action declares.
const maxActionParams = 64

// ConfigWords names the type in messages and lists.
func (ParamList) ConfigWords() string { return "list of NAME:TYPE" }

// UnmarshalText reads the parameters, which white space parts.
func (l *ParamList) UnmarshalText(text []byte) error {
	l.Declared, l.Params = true, nil
	var errs []error
	for word := range strings.FieldsSeq(string(text)) {
		p, err := paramOf(word)
		switch {
		case err != nil:
		case slices.ContainsFunc(l.Params, func(o scheduler.Param) bool { return o.Name == p.Name }):
			err = fmt.Errorf("%q stands there twice", p.Name)
		case len(l.Params) == maxActionParams:
			return fmt.Errorf("there are more than %d parameters", maxActionParams)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.Params = append(l.Params, p)
	}
	if errs == nil {
		return nil
	}
	var all []string
	for _, err := range errs {
		all = append(all, err.Error())
	}
	return errors.New(strings.Join(all, "; "))
}

func paramOf(word string) (p scheduler.Param, err error) {
	types := []scheduler.ParamType{scheduler.String, scheduler.Integer, scheduler.Number, scheduler.Boolean, scheduler.Object, scheduler.Array, scheduler.Duration}
	known := func(yield func(string) bool) {
		for _, t := range types {
			if !yield(string(t)) {
				return
			}
		}
	}
	name, typ, typed := strings.Cut(word, ":")
	typ, p.Required = strings.CutSuffix(typ, "!")
	p.Name, p.Type = name, scheduler.ParamType(typ)
	switch {
	case strings.Contains(word, ","):
		return p, fmt.Errorf("%.64q has a comma: part parameters with spaces", word)
	case !typed:
		return p, fmt.Errorf("%.64q has no type: write %.64s:string", word, strings.TrimSuffix(word, "!"))
	case !slices.Contains(types, p.Type):
		hint := component.DidYouMean(typ, known)
		if hint == "" {
			hint = "there are " + strings.Join(slices.Collect(known), ", ")
		}
		return p, fmt.Errorf("%.64q: there is no type %.32q (%s)", word, typ, hint)
	}
	if err := registry.CheckName(name); err != nil {
		return p, fmt.Errorf("%.64q cannot be a parameter's name: %w", name, err)
	}
	return p, nil
}

// YesNo is yes, no or not said.
type YesNo string

// ConfigWords names the type in messages and lists.
func (YesNo) ConfigWords() string { return "yes or no" }

// UnmarshalText reads what every other key that is yes or no takes.
func (y *YesNo) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "yes", "true", "on":
		*y = "yes"
	case "no", "false", "off":
		*y = "no"
	default:
		return errors.New("write yes or no")
	}
	return nil
}

// MarshalText writes it.
func (y YesNo) MarshalText() ([]byte, error) { return []byte(y), nil }

// actionsConfig are the sections [actions] and [action.NAME] for those who list
// what a file may hold.
type actionsConfig struct {
	Run    map[string]string       `ini:"*" help:"NAME = a built-in action, exec:/path/of/a/program with arguments, an http(s) URL, or remote" example:"exec:/usr/local/bin/notify"`
	Action map[string]ActionConfig `sections:"action" help:"what an action takes, and how it is run; the name of a built-in action changes that"`
}

func actionsEntry() component.Component {
	return component.Component{Contract: "actions", Describer: component.Describe("adds actions to the built-in ones, or replaces one", actionsConfig{})}
}

// remote is the value of a line whose action workers outside do.
const remote = "remote"

// actionReader reads the file's actions.
type actionReader struct {
	s       *Settings
	f       *config.File
	menu    Menu
	known   map[string]scheduler.Action // built in
	timeout time.Duration
}

// actionLine is where an action stands in the file.
type actionLine struct {
	name    string
	section string
	entry   component.Entry // of what runs it; without a line, of the section
	cfg     ActionConfig
}

func (s *Settings) readActions(f *config.File, menu Menu, top topSections) {
	r := actionReader{s: s, f: f, menu: menu, known: s.builtin(nil), timeout: top.CommandTimeout}
	s.made = map[string]func(map[string]scheduler.Action) scheduler.Action{}
	lines := map[string]component.Entry{}
	for _, e := range f.Entries("actions") {
		if err := registry.CheckName(e.Key); err != nil {
			f.ReportAt("actions", e, fmt.Sprintf("%.64q cannot be an action's name: %s", e.Key, err), "")
			continue
		}
		lines[e.Key] = e
		if _, ok := top.Actions[e.Key]; !ok {
			r.read(actionLine{e.Key, "actions", e, ActionConfig{Run: e.Value}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(top.Actions)) {
		r.section(name, top.Actions[name], lines)
	}
}

// section reads [action.NAME], and the line of [actions] that may go with it.
func (r *actionReader) section(name string, cfg ActionConfig, lines map[string]component.Entry) {
	at := actionLine{name: name, section: "action." + name, cfg: cfg}
	for _, s := range r.f.Sections() {
		if s.Name == at.section {
			at.entry, _ = s.Get("run")
			if at.entry.Line == 0 {
				at.entry = component.Entry{Line: s.Line}
			}
		}
	}
	line, both := lines[name]
	_, builtin := r.known[name]
	if err := registry.CheckName(name); err != nil {
		r.f.ReportAt(at.section, at.entry, fmt.Sprintf("%.64q cannot be an action's name: %s", name, err), "")
		return
	}
	switch {
	case both && cfg.Run != "":
		r.f.ReportAt(at.section, at.entry, fmt.Sprintf("what runs %s is also said in [actions], line %d", name, line.Line), "remove one of them")
		return
	case both:
		at.section, at.entry, at.cfg.Run = "actions", line, line.Value
	case cfg.Run == "" && builtin:
		at.cfg.Run = name
	case cfg.Run == "":
		hint := "write run = exec:/path/of/a/program, a URL, remote, or a built-in action"
		if s := component.Suggest(name, maps.Keys(r.known)); s != "" {
			hint = fmt.Sprintf("did you mean [action.%s]? otherwise %s", s, hint)
		}
		r.f.ReportAt(at.section, at.entry, `it says not what runs it: the key "run" is missing`, hint)
		return
	}
	r.read(at)
}

// read makes the action of one line.
func (r *actionReader) read(at actionLine) {
	run := at.cfg.Run
	problem := func(reason, hint string) {
		r.f.ReportAt(at.section, at.entry, at.name+": "+reason, hint)
	}
	command, isCommand := strings.CutPrefix(run, "exec:")
	isURL := strings.HasPrefix(run, "http://") || strings.HasPrefix(run, "https://")
	if !isCommand && at.cfg.Grace > 0 {
		problem("a grace is for a program", "leave it out")
		return
	}
	if _, ok := r.known[run]; !isURL && at.cfg.Token.Reveal() != "" {
		problem("a token is for a URL", "leave it out")
		return
	} else if ok {
		r.alias(at, problem)
		return
	}
	var a scheduler.Action
	var err error
	timeout := r.timeout
	if at.cfg.Timeout > 0 {
		timeout = at.cfg.Timeout
	}
	switch {
	case run == remote:
		a = scheduler.Action{Name: at.name, Help: "done by workers outside", Timeout: at.cfg.Timeout, Remote: true}
	case isURL && r.menu.URL == nil:
		problem("this program posts to no URLs", choices("", r.known))
		return
	case isURL:
		a, err = r.menu.URL(at.name, run, at.cfg.Token, timeout)
	case isCommand && strings.TrimSpace(command) == "":
		problem("exec: names no program", "write exec:/path/of/a/program, with its arguments")
		return
	case isCommand && r.menu.Command == nil:
		problem("this program runs no commands", choices("", r.known))
		return
	case isCommand:
		a, err = r.menu.Command(at.name, strings.Fields(command), timeout, at.cfg.Grace)
	default:
		problem(fmt.Sprintf("%.64q is neither a built-in action nor exec:/path/of/a/program, an http(s) URL or remote", run), r.meant(run))
		return
	}
	if err != nil {
		problem(err.Error(), "")
		return
	}
	if err := r.describe(&a, at); err != nil {
		problem(err.Error(), "")
		return
	}
	r.s.made[at.name] = func(map[string]scheduler.Action) scheduler.Action { return a }
}

// alias gives a built-in action another name, or says something else of it.
func (r *actionReader) alias(at actionLine, problem func(reason, hint string)) {
	of, cfg := at.cfg.Run, at.cfg
	if cfg.Params.Declared {
		problem(fmt.Sprintf("%s is built in and knows what it takes", of), "leave params out")
		return
	}
	r.s.made[at.name] = func(builtin map[string]scheduler.Action) scheduler.Action {
		a := builtin[of]
		a.Name = at.name
		if cfg.Timeout > 0 {
			a.Timeout = cfg.Timeout
		}
		cfg.adjust(&a)
		return a
	}
}

// describe says what an action takes that is not built in. One that replaces a
// built-in action takes what that takes, as jobs for that are made by others too;
// beside it, args and what params adds.
func (r *actionReader) describe(a *scheduler.Action, at actionLine) error {
	cfg := at.cfg
	args := scheduler.Param{Name: "args", Type: scheduler.Object, Help: "whatever it understands"}
	builtin, replaces := r.known[at.name]
	switch {
	case replaces:
		a.Params, a.AnyParams = slices.Clone(builtin.Params), false
		a.Urgent, a.Superseded = builtin.Urgent, builtin.Superseded
		for _, p := range append([]scheduler.Param{args}, cfg.Params.Params...) {
			has := func(o scheduler.Param) bool { return o.Name == p.Name }
			switch i := slices.IndexFunc(a.Params, has); {
			case i < 0:
				a.Params = append(a.Params, p)
			case p.Name != "args":
				return fmt.Errorf("params: it replaces a built-in action, which takes %q (%s) already", p.Name, a.Params[i].Type)
			}
		}
	case cfg.Params.Declared:
		a.Params, a.AnyParams = cfg.Params.Params, false
	default:
		a.Params, a.AnyParams = []scheduler.Param{{Name: "vm", Type: scheduler.String, Help: "the node that it is about"}, args}, true
	}
	cfg.adjust(a)
	return nil
}

func (cfg ActionConfig) adjust(a *scheduler.Action) {
	if cfg.Help != "" {
		a.Help = cfg.Help
	}
	if cfg.Urgent != "" {
		a.Urgent = cfg.Urgent == "yes"
	}
}

// meant guesses what somebody wanted to write.
func (r *actionReader) meant(run string) string {
	if kind, rest, ok := strings.Cut(run, ":"); ok {
		if s := component.Suggest(kind, slices.Values([]string{"exec", "http", "https"})); s != "" {
			return fmt.Sprintf("did you mean %.80q?", s+":"+rest)
		}
	}
	if strings.HasPrefix(run, "/") {
		return fmt.Sprintf("did you mean %.80q?", "exec:"+run)
	}
	if s := component.Suggest(run, slices.Values([]string{remote})); s != "" {
		return `did you mean "remote"?`
	}
	return choices(run, r.known)
}

// actions joins the menu's actions with the file's.
func (s *Settings) actions(c virt.Cluster) map[string]scheduler.Action {
	builtin := s.builtin(c)
	all := map[string]scheduler.Action{}
	maps.Copy(all, builtin)
	for name, make := range s.made {
		all[name] = make(builtin)
	}
	return all
}
