package allocator

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Summary counts the hosts by what ruled them out first: "3 hosts: 2 memory,
// 1 maintenance".
func (d *Decision) Summary() string {
	total, fit, counts := 0, 0, map[string]int{}
	for _, v := range d.verdicts() {
		total++
		if len(v.Ruled) == 0 {
			fit++
			continue
		}
		counts[v.Ruled[0].Filter]++
	}
	if total == 0 {
		return "there are no hosts: add one with vagoth hv add"
	}
	names := make([]string, 0, len(counts))
	for n := range counts {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool {
		if counts[names[i]] != counts[names[j]] {
			return counts[names[i]] > counts[names[j]]
		}
		return names[i] < names[j]
	})
	parts := make([]string, 0, len(names)+1)
	if fit > 0 {
		parts = append(parts, fmt.Sprintf("%d fit", fit))
	}
	for _, n := range names {
		parts = append(parts, fmt.Sprintf("%d ruled out by %s", counts[n], n))
	}
	return fmt.Sprintf("%d hosts: %s", total, strings.Join(parts, ", "))
}

func (d *Decision) verdicts() []Verdict {
	if d.Hosts == nil {
		return nil
	}
	return d.Hosts()
}

type plainDecision Decision

type wireDecision struct {
	plainDecision
	Hosts []Verdict `json:"hosts"`
}

// MarshalJSON writes the verdicts out.
func (d *Decision) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireDecision{plainDecision(*d), d.verdicts()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Decision) UnmarshalJSON(data []byte) error {
	var w wireDecision
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*d = Decision(w.plainDecision)
	d.Hosts = func() []Verdict { return w.Hosts }
	return nil
}
