package server

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/exposition"
	"github.com/skerry-io/skerry/resources"
)

// outsidePatience is how long a page outside may take, and outsideAtOnce how many
// are asked at once.
const outsidePatience, outsideAtOnce = 5 * time.Second, 16

type outsideKey struct{ service, metric string }

// outsideValue is a value from outside the replicas, or why there is none.
type outsideValue struct {
	value   float64
	problem string
	at      time.Time
	rate    exposition.Rate
}

// readOutside reads the metrics that don't come from the replicas, each period,
// until ctx ends.
func (s *Server) readOutside(ctx context.Context) {
	tick := time.NewTicker(resources.ScalePeriod)
	defer tick.Stop()
	for {
		s.readAllOutside(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) readAllOutside(ctx context.Context) {
	v, _ := s.board.get()
	var reading sync.WaitGroup
	room := make(chan struct{}, outsideAtOnce)
	wanted := map[outsideKey]bool{}
	for name, service := range v.state.Services {
		if service.Service.Autoscale == nil {
			continue
		}
		for _, m := range service.Service.Autoscale.Metrics {
			if m.URL == "" {
				continue
			}
			key := outsideKey{name, m.String()}
			wanted[key] = true
			reading.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				s.readOne(ctx, key, m)
			})
		}
	}
	reading.Wait()
	s.scaler.mu.Lock()
	defer s.scaler.mu.Unlock()
	maps.DeleteFunc(s.scaler.outside, func(key outsideKey, _ outsideValue) bool { return !wanted[key] })
}

func (s *Server) readOne(ctx context.Context, key outsideKey, m resources.Metric) {
	ctx, cancel := context.WithTimeout(ctx, outsidePatience)
	defer cancel()
	page, err := s.Fetch(ctx, m.URL)
	var value float64
	var counter bool
	if err == nil {
		value, counter, err = page.Value(m)
	}
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("no answer within %s", outsidePatience)
	}
	s.scaler.read(key, value, counter, err, time.Now())
}

// read takes what was read of a page outside.
func (s *scaler) read(key outsideKey, value float64, counter bool, err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.outside[key]
	if err != nil {
		known.problem = err.Error()
		s.outside[key] = known
		return
	}
	rated := true
	if counter {
		value, rated = known.rate.Next(value, now)
	}
	if known.problem = ""; rated {
		known.value, known.at = value, now
	}
	s.outside[key] = known
}
