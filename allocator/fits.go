package allocator

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/vagoth/vagoth/registry"
)

// MaxAmount bounds every single amount of a resource: what is greater is cut
// down to it, or, as a demand, refused. Sums of bounded amounts cannot overflow.
const MaxAmount = 1 << 40

// Fits returns what keeps need off the host, whose children take used already:
// nothing if it fits. over is what a factor that the host leaves at 0 is; where
// that is 0 too, a capacity counts once.
//
// A demand of 0 fits wherever it is asked, even on a host that has given more
// than it has. A negative demand fits nowhere. A capacity of 0 has room for
// nothing. It is pure, so that what chose a host and what reserves it agree.
func Fits(h Host, over Overcommit, used, need Resources) []Ruled {
	var ruled []Ruled
	capacity := Effective(h, over)
	check := func(filter, unit string, need, used, capacity int64) {
		if r, ok := fits(filter, unit, need, used, capacity); !ok {
			ruled = append(ruled, r)
		}
	}
	check("cpu", " CPUs", need.CPU, used.CPU, capacity.CPU)
	check("memory", " MB", need.Memory, used.Memory, capacity.Memory)
	check("disk", " MB", need.Disk, used.Disk, capacity.Disk)
	for _, name := range slices.Sorted(maps.Keys(need.Custom)) {
		check(name, "", need.Custom[name], used.Custom[name], capacity.Custom[name])
	}
	return ruled
}

func fits(filter, unit string, need, used, capacity int64) (Ruled, bool) {
	used = max(used, 0)
	switch {
	case need == 0:
		return Ruled{}, true
	case need < 0:
		return Ruled{Filter: filter, Required: amount(need, unit), Observed: "a demand cannot be negative"}, false
	case need > MaxAmount:
		return Ruled{Filter: filter, Required: amount(need, unit), Observed: "a demand is at most " + amount(MaxAmount, unit)}, false
	case add(used, need) <= capacity:
		return Ruled{}, true
	}
	r := Ruled{Filter: filter, Required: amount(need, unit)}
	if capacity == 0 {
		r.Observed = "the host has none, or it is not known how much"
		return r, false
	}
	r.Observed = fmt.Sprintf("%s free of %d, %d used", amount(max(capacity-used, 0), unit), capacity, used)
	return r, false
}

func amount(n int64, unit string) string { return strconv.FormatInt(n, 10) + unit }

// Effective is what the host can give away: its capacity times its overcommit
// factors, each amount between 0 and MaxAmount. A factor that is no positive
// number gives nothing. Custom resources are never overcommitted.
func Effective(h Host, over Overcommit) Resources {
	c := h.Capacity.Bounded()
	c.CPU = multiply(c.CPU, h.Overcommit.CPU, over.CPU)
	c.Memory = multiply(c.Memory, h.Overcommit.Memory, over.Memory)
	c.Disk = multiply(c.Disk, h.Overcommit.Disk, over.Disk)
	return c
}

func multiply(n int64, factor, fallback float64) int64 {
	if factor == 0 {
		factor = fallback
	}
	if factor == 0 {
		factor = 1
	}
	product := math.Floor(float64(n) * factor)
	switch {
	case math.IsNaN(product) || product <= 0:
		return 0
	case product >= MaxAmount:
		return MaxAmount
	}
	return int64(product)
}

// Used adds up what the children take of their host, leaving out the one with
// the ID except, which may be "". A child whose demand cannot be read is an
// error, beside the sum of the others: a host that gives away nobody knows how
// much has no room to promise.
func Used(children []*registry.Node, need func(*registry.Node) (Resources, error), except string) (sum Resources, err error) {
	for _, c := range children {
		if c.ID() == except {
			continue
		}
		n, unread := need(c)
		switch {
		case unread == nil:
			sum = sum.Add(n.Bounded())
		case err == nil:
			err = fmt.Errorf("cannot tell what %s takes of its host: %w", c.ID(), unread)
		}
	}
	return sum, err
}

// Add returns r+o. An amount that would overflow stays at the greatest there is.
func (r Resources) Add(o Resources) Resources {
	return r.combine(o, add)
}

// Sub returns r-o, which may be negative. An amount that would overflow stays
// at the greatest there is.
func (r Resources) Sub(o Resources) Resources {
	return r.combine(o, func(a, b int64) int64 {
		if b == math.MinInt64 {
			return add(add(a, math.MaxInt64), 1)
		}
		return add(a, -b)
	})
}

// Bounded returns r with each amount brought between 0 and MaxAmount.
func (r Resources) Bounded() Resources {
	bound := func(n int64) int64 { return min(max(n, 0), MaxAmount) }
	b := Resources{CPU: bound(r.CPU), Memory: bound(r.Memory), Disk: bound(r.Disk)}
	if len(r.Custom) > 0 {
		b.Custom = make(map[string]int64, len(r.Custom))
		for k, v := range r.Custom {
			b.Custom[k] = bound(v)
		}
	}
	return b
}

// IsZero reports whether r is nothing at all.
func (r Resources) IsZero() bool {
	for _, v := range r.Custom {
		if v != 0 {
			return false
		}
	}
	return r.CPU == 0 && r.Memory == 0 && r.Disk == 0
}

func (r Resources) combine(o Resources, op func(a, b int64) int64) Resources {
	c := Resources{CPU: op(r.CPU, o.CPU), Memory: op(r.Memory, o.Memory), Disk: op(r.Disk, o.Disk)}
	if len(r.Custom)+len(o.Custom) > 0 {
		c.Custom = make(map[string]int64, len(r.Custom)+len(o.Custom))
		maps.Copy(c.Custom, r.Custom)
		for k, v := range o.Custom {
			c.Custom[k] = op(c.Custom[k], v)
		}
	}
	return c
}

// add is a+b, or the greatest number of its sign.
func add(a, b int64) int64 {
	s := a + b
	switch {
	case a > 0 && b > 0 && s < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && s >= 0:
		return math.MinInt64
	}
	return s
}
