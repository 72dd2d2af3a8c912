package sim

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// A day in which the demand rises and falls with the sun, with a peak at half past
// nine: replicas are enough but for moments, not many more than needed, and their
// number does not flap.
func TestADay(t *testing.T) {
	if testing.Short() {
		t.Skip("plays 24 hours")
	}
	simulate(t, 1, func(t *testing.T, c *cluster) {
		c.start(t, 1)
		m, err := c.newNode("node-1", resources.Capacity{CPU: 8100, Memory: 16 * resources.GiB}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.boot()
		time.Sleep(apart)
		service := resources.Service{
			Name: "web", Replicas: 1, Template: resources.Template{Image: image("web", "1")},
			Autoscale: &resources.Autoscale{Min: 2, Max: 50, CPU: 60},
		}
		if _, err := c.PutService(t.Context(), service); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		var needed, had float64
		short, turns, changes, last, before := 0, 0, 0, 0, 0
		const step = 30 * time.Second
		steps := int(24 * time.Hour / step)
		for i := range steps {
			hour := 24 * float64(i) / float64(steps)
			demand := 150 + 1500*math.Pow(math.Sin(math.Pi*hour/24), 2)
			if hour > 9.5 && hour < 9.75 {
				demand *= 1.4
			}
			c.demands("web", demand)
			time.Sleep(step)
			synctest.Wait()
			count := m.containers.count("web")
			needed, had = needed+math.Max(demand/60, 2), had+float64(count)
			if demand > 100*float64(count) {
				short++
			}
			if by := count - before; i > 0 && by != 0 {
				changes++
				if by*last < 0 {
					turns++
				}
				last = by
			}
			before = count
		}
		t.Logf("%.2f times what is needed; too few at %d of %d looks; %d changes, %d of direction", had/needed, short, steps, changes, turns)
		if had/needed > 1.15 || short > 2 || turns > 8 {
			t.Error("the day does not go as it should")
		}
	})
}
