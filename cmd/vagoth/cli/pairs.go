package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/vagoth/vagoth/registry"
)

// readDocument reads a definition; no name is an empty one.
func (a *app) readDocument(name string) (registry.Document, error) {
	if name == "" {
		return registry.Document{}, nil
	}
	data, err := a.readInput(name)
	if err != nil {
		return registry.Document{}, err
	}
	if data, err = yaml.YAMLToJSONStrict(data); err != nil {
		return registry.Document{}, usagef("%s: it is neither JSON nor YAML: %w", name, err)
	}
	doc, err := registry.ParseDocument(data)
	if err != nil {
		return registry.Document{}, usagef("%s: %w", name, err)
	}
	return doc, nil
}

func (a *app) readInput(name string) ([]byte, error) {
	in := a.env.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usageError{err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if len(data) > maxInput {
		return nil, usagef("%s has more than %d bytes", name, maxInput)
	}
	return data, nil
}

// pairs sorts KEY=VALUE arguments into the definition and the provisioner's
// arguments.
//
// Of user_data, meta_data and network_config @FILE is what the file holds.
func (a *app) pairs(doc registry.Document, list []string) (registry.Document, map[string]string, error) {
	set, boot, seed, console, more := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}, map[string]string{}
	var disks, nics []any
	for _, arg := range list {
		k, v, ok := strings.Cut(arg, "=")
		if !ok || k == "" {
			return doc, nil, usagef("%q is not KEY=VALUE", arg)
		}
		var err error
		switch k {
		case "cpu":
			set[k], err = strconv.Atoi(v)
		case "memory":
			set[k], err = megabytes(v)
		case "disk":
			var size int64
			size, err = megabytes(v)
			disks = append(disks, map[string]any{"size": size})
		case "network":
			nics = append(nics, map[string]any{"network": v})
		case "image", "type":
			set[k] = v
		case "terminal":
			if v != "yes" && v != "no" {
				return doc, nil, usagef("terminal: %q is neither yes nor no", v)
			}
			console[k] = v == "yes"
		case "kernel", "initrd", "cmdline":
			boot[k] = v
		case "user_data", "meta_data", "network_config":
			if name, isFile := strings.CutPrefix(v, "@"); isFile {
				data, err := a.readInput(name)
				if err != nil {
					return doc, nil, err
				}
				v = string(data)
			}
			seed[k] = v
		default:
			if _, twice := more[k]; twice {
				return doc, nil, usagef("%s is given twice", k)
			}
			more[k] = v
		}
		if err != nil {
			return doc, nil, usagef("%s: %q is not a number: write 2 or, for memory and disk, 512M or 10G", k, v)
		}
	}
	for k, v := range map[string][]any{"disks": disks, "nics": nics} {
		if v != nil {
			set[k] = v
		}
	}
	for k, given := range map[string]map[string]any{"boot": boot, "cloud_init": seed, "console": console} {
		if len(given) == 0 {
			continue
		}
		all, err := doc.Map()
		if err != nil {
			return doc, nil, usageError{err}
		}
		merged, _ := all[k].(map[string]any)
		if merged == nil {
			merged = map[string]any{}
		}
		maps.Copy(merged, given)
		set[k] = merged
	}
	doc, err := doc.Merge(set)
	return doc, more, err
}

// megabytes reads 512, 512M, 10G or 1T.
func megabytes(s string) (int64, error) {
	shift := 0
	if s != "" {
		switch s[len(s)-1] {
		case 'M', 'm':
			s = s[:len(s)-1]
		case 'G', 'g':
			s, shift = s[:len(s)-1], 10
		case 'T', 't':
			s, shift = s[:len(s)-1], 20
		}
	}
	n, err := strconv.ParseInt(s, 10, 40)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	return n << shift, nil
}

func tagMap(tags []string) (map[string]string, error) {
	m := map[string]string{}
	for _, t := range tags {
		k, v, _ := strings.Cut(t, "=")
		if err := registry.CheckTag(k, v); err != nil {
			return nil, usagef("--tag: %w", err)
		}
		m[k] = v
	}
	return m, nil
}
