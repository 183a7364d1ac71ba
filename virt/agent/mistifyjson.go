package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/mistify"
)

// maxMistify bounds an agent.json.
const maxMistify = 4 << 20

// ReadMistify reads the config file of a Mistify agent, agent.json, as it is:
// commas may stand before a closing bracket, and of what nobody knows it warns.
// The members that are added are `idempotent` and `undo` of a stage, `socket` and `timeout`
// of a service.
func ReadMistify(r io.Reader) (cfg Config, warnings []string, err error) {
	data, err := mistify.ReadBody(r, maxMistify)
	if err != nil {
		return Config{}, nil, fmt.Errorf("cannot read the config: %w", err)
	}
	var file mistifyFile
	if err := mistify.Decode(withoutTrailingCommas(data), &file); err != nil {
		return Config{}, nil, fmt.Errorf("cannot read the config: %w", err)
	}
	cfg = Defaults()
	cfg.Store = component.Path(file.DBPath)
	cfg.Services, cfg.Actions = map[string]ServiceConfig{}, map[string]ActionConfig{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(file.Services)) {
		s := file.Services[name]
		c := ServiceConfig{Port: s.Port, Socket: s.Socket, Path: s.Path, MaxPending: s.MaxPending}
		if s.Timeout != "" {
			if c.Timeout, err = component.ParseDuration(s.Timeout); err != nil {
				errs = append(errs, fmt.Errorf("the service %.100q: timeout: %w", name, err))
			}
		}
		if c.Port == 0 && c.Socket == "" {
			errs = append(errs, fmt.Errorf("the service %.100q has no port", name))
		}
		if c.Port < 0 || c.Port > 65535 || c.MaxPending < 0 || c.MaxPending > 10_000 || c.Timeout < 0 {
			errs = append(errs, fmt.Errorf("the service %.100q: its port must be 1 to 65535, max_pending 0 to 10000, timeout not below 0", name))
		}
		cfg.Services[name] = c
	}
	for _, name := range slices.Sorted(maps.Keys(file.Actions)) {
		action, err := mistify.ParseAction(name)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("%v; it is left out", err))
			continue
		}
		given := file.Actions[name]
		if given.Type != "" && string(given.Type) != string(action.Type) {
			warnings = append(warnings, fmt.Sprintf("the action %s is said to be %.32q; it is %s all the same", name, given.Type, action.Type))
		}
		var a ActionConfig
		for _, s := range given.Stages {
			a.Stages = append(a.Stages, Stage(s))
		}
		cfg.Actions[name] = a
		if err := a.check(action, cfg.Services); err != nil {
			errs = append(errs, fmt.Errorf("the action %s %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, warnings, err
	}
	if run, ok := cfg.Actions["run"]; ok && len(cfg.Actions["start"].Stages) == 0 {
		cfg.Actions["start"] = run // the file that Mistify ships starts a guest by nothing else
	}
	return cfg, warnings, cfg.Validate()
}

type mistifyFile struct {
	Actions map[string]struct {
		Type   looseText      `json:"type"`
		Stages []mistifyStage `json:"stages"`
	} `json:"actions"`
	Services map[string]struct {
		Port       int    `json:"port"`
		Socket     string `json:"socket"`
		Path       string `json:"path"`
		MaxPending int    `json:"max_pending"`
		Timeout    string `json:"timeout"`
	} `json:"services"`
	DBPath string `json:"dbpath"`
}

// looseText is a text, or nothing if something else stands there.
type looseText string

func (t *looseText) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*t = looseText(text)
	}
	return nil
}

type mistifyStage struct {
	Service    string            `json:"service"`
	Method     string            `json:"method"`
	Args       map[string]string `json:"args"`
	Idempotent bool              `json:"idempotent"`
	Undo       string            `json:"undo"`
}

// withoutTrailingCommas turns the commas that stand before a closing bracket
// into spaces, so that places in errors stay what they are.
func withoutTrailingCommas(data []byte) []byte {
	out := bytes.Clone(data)
	comma := -1 // the last one with nothing but space behind it
	for i := 0; i < len(out); i++ {
		switch c := out[i]; c {
		case '"':
			comma = -1
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case ',':
			comma = i
		case ' ', '\t', '\r', '\n':
		default:
			if (c == '}' || c == ']') && comma >= 0 {
				out[comma] = ' '
			}
			comma = -1
		}
	}
	return out
}
