package resources

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProblemsOfProbes(t *testing.T) {
	tcp := func(change func(*Probe)) *Probe {
		p := &Probe{TCP: &TCPProbe{Port: 80}}
		if change != nil {
			change(p)
		}
		return p
	}
	for name, c := range map[string]struct {
		health Health
		want   []string
	}{
		"none":              {Health{}, nil},
		"all":               {Health{Startup: tcp(nil), Readiness: tcp(nil), Liveness: tcp(nil)}, nil},
		"nothing asked":     {Health{Readiness: &Probe{}}, []string{"health.readiness"}},
		"two at once":       {Health{Liveness: tcp(func(p *Probe) { p.HTTP = &HTTPProbe{Port: 80} })}, []string{"health.liveness"}},
		"ports":             {Health{Startup: &Probe{TCP: &TCPProbe{Port: 70000}}, Liveness: &Probe{HTTP: &HTTPProbe{}}}, []string{"health.liveness.http.port", "health.startup.tcp.port"}},
		"path":              {Health{Liveness: &Probe{HTTP: &HTTPProbe{Port: 80, Path: "health z"}}}, []string{"health.liveness.http.path"}},
		"scheme and header": {Health{Liveness: &Probe{HTTP: &HTTPProbe{Port: 80, Scheme: "ftp", Headers: map[string]string{"A B": "c"}}}}, []string{"health.liveness.http.scheme", "health.liveness.http.headers"}},
		"no command":        {Health{Readiness: &Probe{Exec: &ExecProbe{}}}, []string{"health.readiness.exec.command"}},
		"times": {
			Health{Readiness: tcp(func(p *Probe) { p.Interval, p.Timeout, p.InitialDelay = 1, -1, -1 })},
			[]string{"health.readiness.interval", "health.readiness.initial_delay", "health.readiness.timeout"},
		},
		"thresholds": {
			Health{Readiness: tcp(func(p *Probe) { p.FailureThreshold, p.SuccessThreshold = -1, -2 })},
			[]string{"health.readiness.failure_threshold", "health.readiness.success_threshold"},
		},
		"twice alive": {Health{Liveness: tcp(func(p *Probe) { p.SuccessThreshold = 2 })}, []string{"health.liveness.success_threshold"}},
	} {
		service := Service{Name: "web", Template: Template{Image: "web", Health: &c.health}}
		service.SetDefaults()
		var got []string
		for _, p := range service.Validate() {
			got = append(got, p.Path)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDefaultsOfAProbe(t *testing.T) {
	service := Service{Template: Template{Health: &Health{Liveness: &Probe{HTTP: &HTTPProbe{Port: 80}}}}}
	service.SetDefaults()
	want := &Probe{
		HTTP: &HTTPProbe{Port: 80, Path: "/", Scheme: "http"}, Interval: DefaultProbeInterval, Timeout: DefaultProbeTimeout,
		SuccessThreshold: 1, FailureThreshold: 3,
	}
	if diff := cmp.Diff(want, service.Health.Liveness); diff != "" {
		t.Error(diff)
	}
}
