package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/skerry-io/skerry/controlplane/autoscale"
	"github.com/skerry-io/skerry/resources"
)

// What one decision of the autoscaler is about, and how long it may take on one
// core: it is due each 15 s.
const (
	scaledServices  = 5000
	scaledReplicas  = 100_000
	scaledSeconds   = 1
	scaledTurns     = 9
	scaledSignals   = 3
	scaledHistory   = 5 * time.Minute
	scaledDecisions = int(scaledHistory / resources.ScalePeriod)
)

// autoscaling decides for many services, each with three targets and the history
// of a whole window, on one core.
func autoscaling(ctx context.Context, notes io.Writer) (comparison, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	services := make([]autoscale.Input, scaledServices)
	for i := range services {
		services[i] = scaledService(i, now)
	}
	decide := func() (moved int) {
		for i := range services {
			d, history := autoscale.Plan(services[i], now)
			if d.From != d.To {
				moved++
			}
			services[i].History = history
		}
		now = now.Add(resources.ScalePeriod)
		return moved
	}
	for range scaledDecisions {
		decide()
	}
	var c comparison
	for range scaledTurns {
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		runtime.GC() // of what stood before
		began := time.Now()
		moved := decide()
		c.add(time.Since(began), scaledSeconds*time.Second)
		fmt.Fprintf(notes, "  %d of %d services move\n", moved, scaledServices)
	}
	return c, nil
}

// scaledService is one of them: its replicas differ, one tells nothing, and one
// has yet to start.
func scaledService(number int, now time.Time) autoscale.Input {
	const each = scaledReplicas / scaledServices
	in := autoscale.Input{
		Autoscale: &resources.Autoscale{
			Min: 1, Max: 100, CPU: 60, Memory: 70, Tolerance: resources.Share{Amount: 10, Percent: true, Given: true},
			Metrics: []resources.Metric{{Name: "queue_length", Port: 9090, TargetAverage: float64(5 + number%10)}},
		},
		Reserved: resources.Reservation{CPU: 100, Memory: 128 * resources.MiB},
		Count:    each, Replicas: make([]autoscale.Replica, each),
	}
	for i := range in.Replicas {
		started := now.Add(-time.Duration(i+1) * time.Hour)
		values := []float64{float64((number + i*7) % 100), float64(i+1) * float64(5*resources.MiB), float64((number + i) % 20)}
		in.Replicas[i] = autoscale.Replica{Running: true, Ready: true, Started: started, ReadySince: started, Since: now.Add(-resources.ScalePeriod), Values: values[:scaledSignals]}
	}
	in.Replicas[0].Running, in.Replicas[0].Ready = false, false
	in.Replicas[1].Values[0] = math.NaN()
	return in
}
