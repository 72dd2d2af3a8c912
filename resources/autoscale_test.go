package resources

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func scaled(change func(*Autoscale)) Problems {
	s := validService()
	s.Autoscale = &Autoscale{Min: 1, Max: 5, CPU: 60}
	change(s.Autoscale)
	s.SetDefaults()
	return s.Validate()
}

// Each case names the attributes whose problems must all be returned.
func TestProblemsOfAutoscale(t *testing.T) {
	metric := func(change func(*Metric)) func(*Autoscale) {
		return func(a *Autoscale) {
			m := Metric{Name: "queue_length", Port: 80, TargetAverage: 5}
			change(&m)
			a.Metrics = []Metric{m}
		}
	}
	for name, c := range map[string]struct {
		change func(*Autoscale)
		want   []string
	}{
		"valid":                 {func(*Autoscale) {}, nil},
		"valid metric":          {metric(func(*Metric) {}), nil},
		"from zero":             {func(a *Autoscale) { a.Min = 0 }, []string{"autoscale.min"}},
		"from zero with a url":  {func(a *Autoscale) { metric(func(m *Metric) { m.Port, m.URL = 0, "http://q/metrics" })(a); a.Min = 0 }, nil},
		"bounds":                {func(a *Autoscale) { a.Min, a.Max = -1, 0 }, []string{"autoscale.min", "autoscale.max"}},
		"max below min":         {func(a *Autoscale) { a.Min = 6 }, []string{"autoscale.max"}},
		"nothing to follow":     {func(a *Autoscale) { a.CPU = 0 }, []string{"autoscale"}},
		"more than is reserved": {func(a *Autoscale) { a.CPU, a.Memory = 91, -1 }, []string{"autoscale.cpu", "autoscale.memory"}},
		"as much as can be":     {func(a *Autoscale) { a.CPU = 90 }, nil},
		"count as tolerance":    {func(a *Autoscale) { a.Tolerance = Share{Amount: 3, Given: true} }, []string{"autoscale.tolerance"}},
		"no tolerance":          {func(a *Autoscale) { a.Tolerance = Share{Percent: true, Given: true} }, nil},
		"port and url":          {metric(func(m *Metric) { m.URL = "http://q/" }), []string{"autoscale.metrics[0]"}},
		"neither":               {metric(func(m *Metric) { m.Port = 0 }), []string{"autoscale.metrics[0]"}},
		"both targets":          {metric(func(m *Metric) { m.TargetTotal = 1 }), []string{"autoscale.metrics[0]"}},
		"no target":             {metric(func(m *Metric) { m.TargetAverage = 0 }), []string{"autoscale.metrics[0]"}},
		"negative":              {metric(func(m *Metric) { m.TargetAverage = -1 }), []string{"autoscale.metrics[0].target_average"}},
		"names, path":           {metric(func(m *Metric) { m.Name, m.Labels, m.Path = "a-b", map[string]string{"c d": ""}, "x" }), []string{"autoscale.metrics[0].name", "autoscale.metrics[0].labels", "autoscale.metrics[0].path"}},
		"no address":            {metric(func(m *Metric) { m.Port, m.URL = 0, "ftp://q" }), []string{"autoscale.metrics[0].url"}},
		"password":              {metric(func(m *Metric) { m.Port, m.URL = 0, "http://a:b@q/" }), []string{"autoscale.metrics[0].url"}},
		"path beside a url":     {metric(func(m *Metric) { m.Port, m.URL, m.Path = 0, "http://q/", "/x" }), []string{"autoscale.metrics[0].path"}},
		"the same twice":        {func(a *Autoscale) { metric(func(*Metric) {})(a); a.Metrics = append(a.Metrics, a.Metrics[0]) }, []string{"autoscale.metrics[1]"}},
		"windows, periods, no step": {func(a *Autoscale) {
			a.Up = &ScaleUp{Window: Duration(2 * time.Hour), Steps: []Share{{Given: true}}}
			a.Down = &ScaleDown{Period: Duration(time.Hour)}
		}, []string{"autoscale.up.window", "autoscale.up.steps[0]", "autoscale.down.period"}},
		"schedules": {func(a *Autoscale) {
			a.Schedules = []ScaleSchedule{{At: "0 8 * *", Min: 6, For: 1}, {At: "0 8 * * 1-5", Min: 3, TimeZone: "Mars/Olympus"}, {At: "0 8 * * 1-5", Min: 3, TimeZone: "Europe/Berlin"}}
		}, []string{"autoscale.schedules[0].at", "autoscale.schedules[0].for", "autoscale.schedules[0].min", "autoscale.schedules[1].time_zone"}},
	} {
		var got []string
		for _, p := range scaled(c.change) {
			got = append(got, p.Path)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", name, diff)
		}
	}
	s := validService()
	s.Mode, s.Autoscale = ModeGlobal, &Autoscale{Min: 1, Max: 2, CPU: 50, Tolerance: defaultTolerance}
	if p := s.Validate(); len(p) != 1 || p[0].Path != "autoscale" {
		t.Errorf("a global service is autoscaled: %v", p)
	}
}

func TestCron(t *testing.T) {
	at := func(text string) time.Time {
		at, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, c := range []struct {
		cron, at string
		want     bool
	}{
		{"* * * * *", "2026-03-02 00:00", true},
		{"30 7 * * 1-5", "2026-03-02 07:30", true}, // a Monday
		{"30 7 * * 1-5", "2026-03-02 07:31", false},
		{"30 7 * * 1-5", "2026-03-01 07:30", false},
		{"0 0 * * 7", "2026-03-01 00:00", true},
		{"0 0 * * 0", "2026-03-01 00:00", true},
		{"*/15 8-18/2 * * *", "2026-03-01 10:45", true},
		{"*/15 8-18/2 * * *", "2026-03-01 11:45", false},
		{"5/20 * * * *", "2026-03-01 11:45", true},
		{"0 0 1,15 * *", "2026-03-15 00:00", true},
		{"0 0 13 * 5", "2026-03-13 00:00", true},
		{"0 0 13 * 5", "2026-03-06 00:00", true}, // one of both days is enough
		{"0 0 13 * 5", "2026-03-07 00:00", false},
		{"0 0 29 2 *", "2028-02-29 00:00", true},
	} {
		cron, err := ParseCron(c.cron)
		if err != nil {
			t.Errorf("%s: %v", c.cron, err)
			continue
		}
		if got := cron.Matches(at(c.at)); got != c.want {
			t.Errorf("%s at %s is %v", c.cron, c.at, got)
		}
	}
	for _, text := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "a * * * *", "0 0 30 2 *", "1- * * * *", ", * * * *"} {
		if _, err := ParseCron(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Within is what it says, found in a simpler way.
func TestCronWithin(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"30 7 * * 1-5", "0 */6 * * *", "0 2 * * *", "59 23 31 * *"} {
		cron, err := ParseCron(text)
		if err != nil {
			t.Fatal(err)
		}
		// Over the night in which summer time begins.
		for now := time.Date(2026, 3, 27, 0, 0, 30, 0, berlin); now.Before(time.Date(2026, 4, 1, 0, 0, 0, 0, berlin)); now = now.Add(17 * time.Minute) {
			for _, span := range []time.Duration{time.Minute, 90 * time.Minute, 26 * time.Hour} {
				want := false
				for minute := now.Truncate(time.Minute); minute.After(now.Add(-span)); minute = minute.Add(-time.Minute) {
					want = want || cron.Matches(minute)
				}
				if got := cron.Within(now, span); got != want {
					t.Fatalf("%s within %s before %s is %v", text, span, now, got)
				}
			}
		}
	}
}

func TestScaledSlots(t *testing.T) {
	s := Scaled{}.To(4)
	if diff := cmp.Diff([]int{0, 1, 2, 3}, s.Slots); diff != "" {
		t.Error(diff)
	}
	s = s.Without(1)
	if diff := cmp.Diff([]int{0, 2, 3}, s.Slots); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4}, s.To(5).Slots); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 2}, s.To(2).Slots); diff != "" {
		t.Error(diff)
	}
}

func TestCount(t *testing.T) {
	r := ServiceRecord{Service: Service{Replicas: 3}}
	if r.Count() != 3 || r.Service.Most() != 3 {
		t.Errorf("it counts %d, at most %d", r.Count(), r.Service.Most())
	}
	r.Scaled = &Scaled{Slots: []int{0, 5}}
	if r.Count() != 3 {
		t.Error("what an autoscaler said once counts still")
	}
	r.Service.Autoscale = &Autoscale{Min: 1, Max: 9}
	if r.Count() != 2 || r.Service.Most() != 9 {
		t.Errorf("it counts %d, at most %d", r.Count(), r.Service.Most())
	}
}

func FuzzParseCron(f *testing.F) {
	f.Add("30 7 * * 1-5")
	f.Add("*/15 8-18/2 1,15 * 0")
	f.Fuzz(func(_ *testing.T, text string) {
		if c, err := ParseCron(text); err == nil {
			c.Within(time.Unix(1e9, 0).UTC(), 24*time.Hour)
		}
	})
}
