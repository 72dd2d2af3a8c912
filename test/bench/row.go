package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// comparison is what was measured, of skerry and of what it is held against,
// in the order in which it was: in unit, or in seconds where that is empty.
type comparison struct {
	ours, against []float64
	unit          string
	// more is how much more than the other one skerry may take, where that is the
	// goal and not a ratio.
	more float64
}

func (c *comparison) add(ours, against time.Duration) {
	c.ours, c.against = append(c.ours, ours.Seconds()), append(c.against, against.Seconds())
}

// row is one result, as in build/bench.json. Value and Against are medians in
// Unit, Ratio is the one by the other, and it is met where it is at most Goal. A
// row without a Goal is told, and promises nothing.
type row struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Against float64 `json:"against"`
	Ratio   float64 `json:"ratio"`
	Goal    float64 `json:"goal"`
	Met     bool    `json:"met"`
	// Machine is what it was measured on.
	Machine machine `json:"machine"`
}

func (c comparison) row(b bench) row {
	r := row{Name: b.name, Unit: cmp.Or(c.unit, "s"), Value: median(c.ours), Against: median(c.against), Goal: b.goal}
	r.Ratio = r.Value / r.Against
	if c.more > 0 {
		r.Goal = (r.Against + c.more) / r.Against
	}
	r.Met = r.Ratio <= r.Goal || r.Goal == 0
	for _, value := range []*float64{&r.Value, &r.Against, &r.Ratio, &r.Goal} {
		*value = math.Round(*value*1000) / 1000
	}
	return r
}

// median is the middle one, or the mean of the two in the middle.
func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
