package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func TestAutoscaleForPeople(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	var out bytes.Buffer
	printAutoscale(&out, resources.AutoscaleStatus{
		Service: "web", Autoscale: resources.Autoscale{Min: 2, Max: 6}, Count: 6, Ready: 4,
		Decisions: []resources.ScaleDecision{
			{
				Time: at, From: 2, To: 4, Wants: 7, Floor: 2,
				Readings: []resources.ScaleReading{
					{Name: "cpu", Value: "92%", Target: "60%", Ratio: 1.533, Measured: 2, Unready: 1, Wants: 4},
					{Name: "queue of :80/metrics", Target: "10 each", Wants: 2, Problem: "replica web-0-abc: the answer is 404"},
				},
				Reasons: []string{"at most 4 now: up.steps allow no more within 15s"},
			},
			{Time: at.Add(15 * time.Second), From: 4, To: 4, Wants: 4},
		},
	})
	want := `web is to have 6 replicas, from 2 to 6; 4 are ready.

2026-03-01 12:00:00  from 2 to 4, where 7 are asked for
  cpu is 92%, target 60% (ratio 1.53, 2 measured, 1 not ready): asks for 4
  queue of :80/metrics (target 10 each) can't be measured: replica web-0-abc: the answer is 404
  at most 4 now: up.steps allow no more within 15s

2026-03-01 12:00:15  stays at 4
`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out.String(), "\n")); diff != "" {
		t.Error(diff)
	}
}
