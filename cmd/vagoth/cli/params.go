package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// checkPairs refuses what is not KEY=VALUE, and a key that is given twice.
func checkPairs(flag string, given []string) error {
	seen := map[string]bool{}
	for _, pair := range given {
		k, _, ok := strings.Cut(pair, "=")
		switch {
		case !ok || k == "":
			return usagef("%s: %.40q is not KEY=VALUE", flag, pair)
		case seen[k]:
			return usagef("%s: %.40q is given twice", flag, k)
		}
		seen[k] = true
	}
	return nil
}

// actionParams are the parameters of an action's job, from what was typed: those
// that the action declares have its types, others are JSON or else text. Whether
// all are there that must be is for the scheduler to say.
func actionParams(ctx context.Context, client *api.Client, action string, given []string) (registry.Document, error) {
	if len(given) == 0 {
		return registry.Document{}, nil
	}
	a, known, err := actionNamed(ctx, client, action)
	if err != nil {
		return registry.Document{}, err
	}
	set := map[string]any{}
	for _, pair := range given {
		k, text, _ := strings.Cut(pair, "=")
		i := slices.IndexFunc(a.Params, func(p api.ParamInfo) bool { return p.Name == k })
		switch {
		case i >= 0:
			v, ok := typedValue(a.Params[i].Type, text)
			if !ok {
				return registry.Document{}, usagef("--param: %q of %s is of type %s, and %.40q is not", k, action, a.Params[i].Type, text)
			}
			set[k] = v
		case known && !a.AnyParams:
			return registry.Document{}, usagef("--param: %s takes no %.40q (%s)", action, k, takes(a, k))
		default:
			set[k] = looseValue(text)
		}
	}
	return registry.NewDocument(set)
}

// actionNamed finds what is known of an action: nothing of one that only workers
// outside know, or whose daemon is too old to tell.
func actionNamed(ctx context.Context, client *api.Client, name string) (a api.ActionInfo, known bool, err error) {
	list, err := client.Actions(ctx)
	if api.CodeOf(err).Name == "no_endpoint" {
		return a, false, nil
	}
	for _, a := range list {
		if a.Name == name {
			return a, true, nil
		}
	}
	return a, false, err
}

// takes is what was probably meant, or all that there is.
func takes(a api.ActionInfo, word string) string {
	names := make([]string, 0, len(a.Params))
	for _, p := range a.Params {
		names = append(names, p.Name)
	}
	if s := component.DidYouMean(word, slices.Values(names)); s != "" {
		return s
	}
	if len(names) == 0 {
		return "it takes none"
	}
	return "it takes " + strings.Join(names, ", ")
}

// typedValue reads text as the type says; false if it cannot be that.
func typedValue(t scheduler.ParamType, text string) (any, bool) {
	switch t {
	case scheduler.Integer:
		_, err := strconv.ParseInt(text, 10, 64)
		return json.RawMessage(text), err == nil && json.Valid([]byte(text))
	case scheduler.Number:
		_, err := strconv.ParseFloat(text, 64)
		return json.RawMessage(text), err == nil && json.Valid([]byte(text))
	case scheduler.Boolean:
		return text == "true", text == "true" || text == "false"
	case scheduler.Object:
		return json.RawMessage(text), strings.HasPrefix(strings.TrimSpace(text), "{") && json.Valid([]byte(text))
	case scheduler.Array:
		return json.RawMessage(text), strings.HasPrefix(strings.TrimSpace(text), "[") && json.Valid([]byte(text))
	case scheduler.Duration:
		d, err := component.ParseDuration(text)
		return d.String(), err == nil && d >= 0
	}
	return text, true
}

// looseValue is JSON if it can be read as such, and else text.
func looseValue(text string) any {
	if json.Valid([]byte(text)) && strings.TrimSpace(text) != "null" {
		return json.RawMessage(text)
	}
	return text
}
