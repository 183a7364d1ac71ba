package agent

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Config is the section [agent] of the ini file, with the sections
// [agent.service.NAME] and [agent.action.NAME].
type Config struct {
	Listen string         `ini:"listen" help:"address to serve at; anything but loopback needs TLS with client certificates, or tokens" example:"127.0.0.1:8080"`
	Store  component.Path `ini:"store" help:"directory of what the agent remembers; empty is a folder of the data directory"`

	KeepJobs   int `ini:"keep_jobs" help:"how many jobs that have ended are kept" min:"1" max:"1000000"`
	QueueJobs  int `ini:"queue_jobs" help:"jobs of one guest that may wait; more are refused" min:"1" max:"100000"`
	MaxJobs    int `ini:"max_jobs" help:"jobs of all guests that may wait; more are refused" min:"1" max:"1000000"`
	MaxGuests  int `ini:"max_guests" help:"guests that the agent keeps; more are refused" min:"1" max:"1000000"`
	MaxInfo    int `ini:"max_info" help:"questions about one guest at once; more wait" min:"1" max:"10000"`
	MaxStreams int `ini:"max_streams" help:"downloads of one guest at once, of which more wait, and consoles of one guest, of which more are refused" min:"1" max:"1000"`

	MaxRequests int `ini:"max_requests" help:"requests at once; more are refused" min:"1" max:"100000"`
	MaxWaiting  int `ini:"max_waiting" help:"requests at once that wait for a job, or stream; more are refused" min:"1" max:"100000"`

	InfoTimeout  time.Duration `ini:"info_timeout" help:"for each question to a sub-agent" min:"10ms" max:"1h"`
	AsyncTimeout time.Duration `ini:"async_timeout" help:"for each stage of a job" min:"10ms" max:"24h"`
	StreamStall  time.Duration `ini:"stream_stall" help:"how long a download may stand still" min:"10ms" max:"1h"`
	MaxRetries   int           `ini:"max_retries" help:"how often a stage is tried again because its sub-agent asks for it, or because the agent was killed in it" min:"0" max:"10000"`
	MaxRetryWait time.Duration `ini:"max_retry_wait" help:"the longest that a sub-agent can ask to wait before that" min:"0s" max:"24h"`
	UndoTries    int           `ini:"undo_tries" help:"how often the undo of a stage is tried before what was made is left as it is" min:"1" max:"1000"`
	StopGrace    time.Duration `ini:"stop_grace" help:"how long running stages have to end when the agent is stopped" min:"0s" max:"1h"`

	GetActions   bool `ini:"get_actions" help:"actions by GET too, as Mistify's manual has it; never for a page of another site or a prefetch"`
	RequireToken bool `ini:"require_token" help:"refuse changes that carry no fencing token"`
	Profiling    bool `ini:"profiling" help:"serve /debug/pprof, to administrators"`
	Debug        bool `ini:"debug" help:"errors show where in the agent they were made"`

	Services map[string]ServiceConfig `sections:"agent.service" help:"a sub-agent"`
	Actions  map[string]ActionConfig  `sections:"agent.action" help:"what is done for an action"`
}

// ServiceConfig is a section [agent.service.NAME]. One that has neither port nor
// socket is inside the process.
type ServiceConfig struct {
	Port       int           `ini:"port" help:"port on 127.0.0.1" min:"0" max:"65535"`
	Socket     string        `ini:"socket" help:"unix socket, instead of a port"`
	Path       string        `ini:"path" help:"path to ask at; empty is /_mistify_RPC_"`
	MaxPending int           `ini:"max_pending" help:"calls at once; more wait; 0 is 4" min:"0" max:"10000"`
	Timeout    time.Duration `ini:"timeout" help:"for each call; 0 is that of [agent]" min:"0s" max:"24h"`
}

// ActionConfig is a section [agent.action.NAME].
type ActionConfig struct {
	Stages []Stage `ini:"stages" required:"true" help:"what is called, in order: SERVICE METHOD [idempotent] [undo METHOD] [KEY=VALUE ...], with commas between; values are escaped as in a URL" example:"storage ImageStore.CreateGuestDisks idempotent undo ImageStore.UndoGuestDisks, libvirt Libvirt.CreateGuest"`
}

// Stage is one call of a pipeline.
type Stage struct {
	Service    string
	Method     string
	Args       map[string]string
	Idempotent bool   // it may be done again when nobody knows whether it was done
	Undo       string // the method that takes it back when it, or a stage behind it, fails; "" for none
}

// Defaults is the Config that an empty section gives.
func Defaults() Config {
	return Config{
		Listen: "127.0.0.1:8080", KeepJobs: 1000, QueueJobs: 100, MaxJobs: 10_000, MaxGuests: 100_000, MaxInfo: 100, MaxStreams: 5,
		MaxRequests: 256, MaxWaiting: 10_000,
		InfoTimeout: 30 * time.Second, AsyncTimeout: 10 * time.Minute, StreamStall: 30 * time.Second,
		MaxRetries: 100, MaxRetryWait: 5 * time.Minute, UndoTries: 10, StopGrace: 10 * time.Second, GetActions: true,
	}
}

// withDefaults fills what a Config made by hand leaves out.
func (c Config) withDefaults() Config {
	d := Defaults()
	for _, v := range []struct {
		at *int
		or int
	}{
		{&c.KeepJobs, d.KeepJobs}, {&c.QueueJobs, d.QueueJobs}, {&c.MaxJobs, d.MaxJobs}, {&c.MaxGuests, d.MaxGuests}, {&c.MaxInfo, d.MaxInfo},
		{&c.MaxStreams, d.MaxStreams}, {&c.UndoTries, d.UndoTries}, {&c.MaxRequests, d.MaxRequests}, {&c.MaxWaiting, d.MaxWaiting},
	} {
		*v.at = cmp.Or(max(*v.at, 0), v.or)
	}
	c.InfoTimeout = cmp.Or(max(c.InfoTimeout, 0), d.InfoTimeout)
	c.AsyncTimeout = cmp.Or(max(c.AsyncTimeout, 0), d.AsyncTimeout)
	c.StreamStall = cmp.Or(max(c.StreamStall, 0), d.StreamStall)
	return c
}

// UnmarshalText reads a stage as people write it.
func (s *Stage) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if len(words) < 2 {
		return fmt.Errorf("%.100q is no stage: write SERVICE METHOD, such as `libvirt Libvirt.Create`", text)
	}
	*s = Stage{Service: words[0], Method: words[1]}
	for i := 2; i < len(words); i++ {
		w := words[i]
		key, value, pair := strings.Cut(w, "=")
		switch {
		case w == "undo" && s.Undo == "" && i+1 < len(words):
			i++
			s.Undo = words[i]
		case w == "idempotent" && !s.Idempotent:
			s.Idempotent = true
		case !pair || key == "":
			return fmt.Errorf("%.100q after a stage's method is none of `idempotent`, `undo METHOD` and KEY=VALUE, or stands twice", w)
		default:
			plain, err := url.PathUnescape(value)
			if err != nil {
				return fmt.Errorf("the value of %.100q is not escaped as in a URL: write %%25 for a %%", key)
			}
			if s.Args == nil {
				s.Args = map[string]string{}
			}
			if _, twice := s.Args[key]; twice {
				return fmt.Errorf("the argument %.100q stands twice", key)
			}
			s.Args[key] = plain
		}
	}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (s Stage) MarshalText() ([]byte, error) {
	words := []string{s.Service, s.Method}
	if s.Idempotent {
		words = append(words, "idempotent")
	}
	if s.Undo != "" {
		words = append(words, "undo", s.Undo)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Args)) {
		words = append(words, k+"="+url.PathEscape(s.Args[k]))
	}
	return []byte(strings.Join(words, " ")), nil
}

// Validate refuses what no single key shows.
func (c Config) Validate() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		s := c.Services[name]
		if s.Port != 0 && s.Socket != "" {
			errs = append(errs, fmt.Errorf("[agent.service.%s] has a port and a socket: leave one out", name))
		}
		if s.Path != "" {
			if err := mistify.CheckPath(s.Path); err != nil {
				errs = append(errs, fmt.Errorf("[agent.service.%s] %w", name, err))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Actions)) {
		action, err := mistify.ParseAction(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("[agent.action.%s] %w", name, err))
			continue
		}
		if err := c.Actions[name].check(action, c.Services); err != nil {
			errs = append(errs, fmt.Errorf("[agent.action.%s] %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// maxStages bounds a pipeline.
const maxStages = 64

func (a ActionConfig) check(action mistify.Action, services map[string]ServiceConfig) error {
	if len(a.Stages) == 0 || len(a.Stages) > maxStages {
		return fmt.Errorf("has %d stages: give it 1 to %d", len(a.Stages), maxStages)
	}
	if action.Type == mistify.Stream && len(a.Stages) > 1 {
		return fmt.Errorf("has %d stages: a stream has one stage, whose bytes it is", len(a.Stages))
	}
	if action.Type == mistify.Upload && len(a.Stages) > 1 {
		return fmt.Errorf("has %d stages: what is sent goes to one sub-agent", len(a.Stages))
	}
	if action.On == mistify.OnConsole && len(a.Stages) > 1 {
		return fmt.Errorf("has %d stages: what is typed goes to one sub-agent, that whose console is shown", len(a.Stages))
	}
	for i, s := range a.Stages {
		if _, ok := services[s.Service]; !ok {
			hint := component.DidYouMean(s.Service, maps.Keys(services))
			return fmt.Errorf("stage %d names the service %.100q, which there is none of: %s", i+1, s.Service, cmp.Or(hint, "add a section [agent.service."+s.Service+"]"))
		}
		if err := mistify.CheckMethod(s.Method); err != nil {
			return fmt.Errorf("stage %d: %w", i+1, err)
		}
		if s.Undo == "" {
			continue
		}
		if err := mistify.CheckMethod(s.Undo); err != nil {
			return fmt.Errorf("stage %d: undo: %w", i+1, err)
		}
		if action.Type != mistify.Async || action.On != mistify.OnGuest {
			return fmt.Errorf("stage %d has the undo %s: only jobs of guests can be taken back, leave it out", i+1, s.Undo)
		}
	}
	return nil
}
