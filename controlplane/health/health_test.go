package health

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func probe(success, failure int) *resources.Probe {
	return &resources.Probe{
		TCP: &resources.TCPProbe{Port: 80}, Interval: resources.Duration(10 * time.Second), Timeout: resources.Duration(time.Second),
		SuccessThreshold: success, FailureThreshold: failure,
	}
}

// What a row of answers comes to: + succeeds and - fails; each answer is of the
// kind before it (s, r or l), and after it stands what the state is then: S for
// started, R for ready, U for unhealthy, or a dot for none of it.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		health resources.Health
		there  bool
		row    string
	}{
		{"no probes", resources.Health{}, false, "SR"},
		{"ready at the first answer", resources.Health{Readiness: probe(1, 3)}, false, "S r-S r+SR"},
		{"ready at the second answer", resources.Health{Readiness: probe(2, 3)}, false, "S r+S r-S r+S r+SR"},
		{"not ready any more", resources.Health{Readiness: probe(1, 2)}, false, "S r+SR r-SR r+SR r-SR r-S r-S r+SR"},
		{"alive until the third failure", resources.Health{Liveness: probe(1, 3)}, false, "SR l-SR l-SR l+SR l-SR l-SR l-SRU"},
		{"started late", resources.Health{Startup: probe(1, 3), Readiness: probe(1, 1)}, false, ". s-. s-. s+S r+SR"},
		{"never started", resources.Health{Startup: probe(1, 2), Liveness: probe(1, 1)}, false, ". s-. s-U"},
		{"there before", resources.Health{Startup: probe(1, 2), Readiness: probe(1, 2), Liveness: probe(1, 2)}, true, "SR r-SR r-S r+SR l-SR l-SRU"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, now := Begin(test.health, start, test.there), start
			for i, answer := range strings.Fields(test.row) {
				if i > 0 {
					kind := map[byte]Kind{'s': Startup, 'r': Readiness, 'l': Liveness}[answer[0]]
					at, ever := s.Due(kind)
					if !ever || at.Before(now.Add(-time.Hour)) {
						t.Fatalf("answer %d, %s: it is not due", i, answer)
					}
					s = s.Heard(kind, now, now.Add(time.Second), map[byte]string{'+': "", '-': "refused"}[answer[1]])
					answer = answer[2:]
					now = now.Add(10 * time.Second)
				}
				if got := letters(s); got != answer {
					t.Fatalf("after %d answers the state is %s, want %s", i, got, answer)
				}
			}
		})
	}
}

func letters(s State) string {
	text := ""
	if s.Started() {
		text += "S"
	}
	if s.Ready() {
		text += "R"
	}
	if s.Unhealthy() != "" {
		text += "U"
	}
	if text == "" {
		return "."
	}
	return text
}

func TestWhenTheyAreDue(t *testing.T) {
	h := resources.Health{Startup: probe(1, 3), Readiness: probe(1, 1), Liveness: probe(1, 1)}
	h.Startup.InitialDelay, h.Readiness.InitialDelay = resources.Duration(5*time.Second), resources.Duration(2*time.Second)
	s := Begin(h, start, false)
	due := func(k Kind, want time.Duration) {
		t.Helper()
		at, ever := s.Due(k)
		if got := at.Sub(start); ever != (want >= 0) || ever && got != want {
			t.Errorf("%s is due after %s, %v; want %s", k, got, ever, want)
		}
	}
	due(Startup, 5*time.Second)
	due(Readiness, -1)
	s = s.Heard(Startup, start.Add(5*time.Second), start.Add(6*time.Second), "refused")
	due(Startup, 15*time.Second)
	if got := s.Waiting(); got != "startup probe: refused" {
		t.Errorf("it waits for %q", got)
	}
	s = s.Heard(Startup, start.Add(15*time.Second), start.Add(16*time.Second), "")
	due(Startup, -1)
	due(Readiness, 18*time.Second)
	due(Liveness, 16*time.Second)
	s = s.Heard(Liveness, start.Add(16*time.Second), start.Add(17*time.Second), "refused")
	due(Readiness, -1)
	if got := s.Unhealthy(); got != "its liveness probe failed 1 in a row: refused" {
		t.Errorf("it is unhealthy: %q", got)
	}
}

// Whatever is answered: only what is due counts, what is unhealthy stays so, and
// readiness changes after as many answers in a row as it has to.
func TestStateProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) *resources.Probe {
			if !rapid.Bool().Draw(t, name) {
				return nil
			}
			p := probe(rapid.IntRange(1, 3).Draw(t, "success"), rapid.IntRange(1, 3).Draw(t, "failure"))
			if name != "readiness" {
				p.SuccessThreshold = 1
			}
			return p
		}
		s := Begin(resources.Health{Startup: draw("startup"), Readiness: draw("readiness"), Liveness: draw("liveness")}, start, rapid.Bool().Draw(t, "there"))
		now, row, before := start, 0, false
		for range rapid.IntRange(0, 30).Draw(t, "answers") {
			kind := Kind(rapid.IntRange(0, 2).Draw(t, "kind"))
			if _, ever := s.Due(kind); !ever {
				continue
			}
			good := rapid.Bool().Draw(t, "good")
			was := s
			s = s.Heard(kind, now, now, map[bool]string{false: "no"}[good])
			now = now.Add(10 * time.Second)
			if at, ever := s.Due(kind); ever && !at.Equal(now) {
				t.Fatalf("%s is due at %s", kind, at)
			}
			if was.Started() && !s.Started() {
				t.Fatal("what has started has not started any more")
			}
			if kind != Readiness {
				continue
			}
			if good != before {
				row = 0
			}
			row, before = row+1, good
			need := s.Probe(Readiness).FailureThreshold
			if good {
				need = s.Probe(Readiness).SuccessThreshold
			}
			if changed := was.counts[Readiness].says != s.counts[Readiness].says; changed && row < need {
				t.Fatalf("readiness changes after %d answers of %d", row, need)
			}
			if row >= need && s.counts[Readiness].says != good {
				t.Fatalf("after %d answers of %v readiness is %v", row, good, !good)
			}
		}
		if s.Unhealthy() != "" {
			for k := range kinds {
				if _, ever := s.Due(k); ever {
					t.Fatalf("%s is due of what has to end", k)
				}
			}
		}
	})
}
