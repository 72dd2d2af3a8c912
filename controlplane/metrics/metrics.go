// Package metrics is how servers and agents show what they measure: in the text
// form of Prometheus, from a registry that each has for itself, so that several
// of them live in one process.
//
// A metric that counts events belongs to whoever sees them. One that tells a
// state is read from that state when somebody asks (States), and is never kept
// up to date beside it. docs/metrics.md lists all of them, and a test holds that
// page against the registries.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// New makes a registry, with what there is to know of the process.
func New() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler serves GET /metrics.
func Handler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Seconds are the buckets of durations from a millisecond to a minute.
var Seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// State is one gauge that is read when it is asked for.
type State struct {
	desc *prometheus.Desc
}

// NewState describes a gauge with the names of its labels.
func NewState(name, help string, labels ...string) State {
	return State{prometheus.NewDesc(name, help, labels, nil)}
}

// Set gives the value of the gauge for those values of its labels.
type Set func(s State, value float64, labels ...string)

// States is a collector of gauges.
type States struct {
	All []State
	// Read sets those that have a value now.
	Read func(set Set)
}

// Describe implements prometheus.Collector.
func (s States) Describe(descs chan<- *prometheus.Desc) {
	for _, one := range s.All {
		descs <- one.desc
	}
}

// Collect implements prometheus.Collector.
func (s States) Collect(values chan<- prometheus.Metric) {
	s.Read(func(one State, value float64, labels ...string) {
		values <- prometheus.MustNewConstMetric(one.desc, prometheus.GaugeValue, value, labels...)
	})
}
