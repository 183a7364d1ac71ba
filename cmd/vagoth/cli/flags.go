package cli

import (
	"fmt"
	"os"
	"regexp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// selector is the flags that choose nodes.
type selector struct {
	query registry.Query
	tags  []string
	par   string
	all   bool
	set   *pflag.FlagSet
}

func (s *selector) flags(f *pflag.FlagSet) {
	s.set = f
	f.StringVar(&s.query.Name, "name", "", "names that match the pattern, such as 'web*'")
	f.StringVar(&s.query.Type, "type", "", "nodes of the type, such as vm or hv")
	f.StringVar(&s.query.State, "state", "", "nodes in the state, such as running")
	f.StringVar(&s.query.Tenant, "tenant", "", "nodes of the tenant")
	f.StringArrayVar(&s.tags, "tag", nil, "nodes with the tag, KEY or KEY=VALUE; several must all match")
	f.StringVar(&s.query.Key, "key", "", "the node that holds the unique key")
	f.StringVar(&s.par, "parent", "", "nodes on the host; an empty value means on none")
}

// get is the query that the flags make.
func (s *selector) get() (registry.Query, error) {
	q := s.query
	if s.set.Changed("parent") {
		q.Parent = &s.par
	}
	if len(s.tags) > 0 {
		v := api.QueryValues(q)
		v["tag"] = s.tags
		limit := q.Limit
		var err error
		if q, err = api.ParseQuery(v); err != nil {
			return q, usageError{err}
		}
		q.Limit = limit
	}
	if err := q.Validate(); err != nil {
		return q, usageError{err}
	}
	return q, nil
}

var unknownFlag = regexp.MustCompile(`^unknown flag: --(\S+)$`)

// suggestFlag adds the flag that was probably meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	m := unknownFlag.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	names := func(yield func(string) bool) {
		more := true
		each := func(f *pflag.Flag) { more = more && yield(f.Name) }
		cmd.LocalFlags().VisitAll(each)
		cmd.InheritedFlags().VisitAll(each)
	}
	if s := component.Suggest(m[1], names); s != "" {
		return fmt.Errorf("%s has no flag --%s (did you mean --%s?)", cmd.CommandPath(), m[1], s)
	}
	return fmt.Errorf("%s has no flag --%s", cmd.CommandPath(), m[1])
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
