package resources

import "time"

// SampleOrder tells an agent what to measure of a service's replicas.
type SampleOrder struct {
	Service string `json:"service"`
	// Usage is true where processor time and memory are asked for.
	Usage bool `json:"usage,omitempty"`
	// Metrics to read from each replica.
	Metrics []Metric `json:"metrics,omitempty"`
}

// The names of what every container has, in Sample.Values.
const (
	SampleCPU    = "cpu"    // millicores, on average of the span
	SampleMemory = "memory" // bytes, without files that the kernel could drop
)

// Sample is what an agent has measured of one replica.
type Sample struct {
	Replica ReplicaID `json:"replica"`
	// Span is the time that rates are averages of, up to now.
	Span Duration `json:"span"`
	// Values by name: SampleCPU, SampleMemory, or Metric.String. What could not be
	// measured is absent.
	Values map[string]float64 `json:"values"`
	// Problems say why, by name.
	Problems map[string]string `json:"problems,omitempty"`
}

// ScaleReading is what one target of an autoscaled service came to.
type ScaleReading struct {
	// Name of what was measured: cpu, memory, or the metric's.
	Name string `json:"name"`
	// Value and Target, for people, as in "84%" and "60%".
	Value  string `json:"value,omitempty"`
	Target string `json:"target"`
	// Ratio of both, with what was assumed of the replicas that tell nothing.
	Ratio float64 `json:"ratio"`
	// Measured, Unready and Missing count the replicas: with a value that counts;
	// not ready yet; without a value though they run.
	Measured int `json:"measured"`
	Unready  int `json:"unready,omitempty"`
	Missing  int `json:"missing,omitempty"`
	// Wants is the count that the target asks for; with a Problem it asks for none.
	Wants   int    `json:"wants"`
	Problem string `json:"problem,omitempty"`
	// Note says in words how it came to that.
	Note string `json:"note,omitempty"`
}

// ScaleDecision is what the autoscaler has made of its readings.
type ScaleDecision struct {
	Time time.Time `json:"time"`
	// From is the count before, and To the one from now on.
	From     int            `json:"from"`
	To       int            `json:"to"`
	Readings []ScaleReading `json:"readings"`
	// Wants is what the readings ask for, before bounds, windows and steps.
	Wants int `json:"wants"`
	// Floor is the fewest replicas at this time: min, or that of a schedule.
	Floor int `json:"floor"`
	// Reasons say step by step why To is not Wants.
	Reasons []string `json:"reasons"`
	// NoRoom says which resource ran out, where the cluster has no room for all.
	NoRoom string `json:"no_room,omitempty"`
}

// AutoscaleStatus is how a service is scaled.
type AutoscaleStatus struct {
	Service   string    `json:"service"`
	Autoscale Autoscale `json:"autoscale"`
	Count     int       `json:"count"`
	Ready     int       `json:"ready"`
	// Decisions, the latest last. The leader keeps a few; another one begins anew.
	Decisions []ScaleDecision `json:"decisions"`
}
