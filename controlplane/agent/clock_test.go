package agent

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/resources"
)

func TestSkewed(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead time.Duration
		held  bool
		want  string
	}{
		{"right", 0, false, ""},
		{"at the limit", 2 * time.Second, false, ""},
		{"ahead", 2*time.Second + time.Millisecond, false, "2s ahead of"},
		{"behind", -3 * time.Hour, false, "3h0m0s behind"},
		{"still wrong", 1100 * time.Millisecond, true, "1.1s ahead of"},
		{"right again", -time.Second, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := skewed(c.ahead, c.held)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("it says %q, want %q", got, c.want)
			}
		})
	}
}

func TestAWrongClockIsACondition(t *testing.T) {
	ahead, known := time.Duration(0), true
	a := &Agent{
		Config:     Config{Log: slog.New(slog.DiscardHandler), Skew: func() (time.Duration, bool) { return ahead, known }},
		conditions: map[resources.NodeConditionType]resources.NodeCondition{},
	}
	for _, step := range []struct {
		ahead time.Duration
		known bool
		want  bool
	}{{time.Second, true, false}, {time.Minute, false, false}, {-time.Minute, true, true}, {0, false, true}, {0, true, false}} {
		ahead, known = step.ahead, step.known
		a.compareClocks()
		if _, got := a.conditions[resources.ClockSkew]; got != step.want {
			t.Errorf("%s ahead (known: %t): the condition holds: %t", step.ahead, step.known, got)
		}
	}
}
