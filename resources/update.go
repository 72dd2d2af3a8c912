package resources

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Update says how the replicas of a service change from one revision to the
// next. The defaults are those of Swarm: one replica after the other, the old
// one first, and a halt where the new one can't run. They need no spare room on
// any node, and work where replicas publish ports.
type Update struct {
	// Which replica of a slot goes first: `stop-first` stops the old one before the new one is made, `start-first` waits until the new one is ready.
	Order string `json:"order,omitempty" iac:"default=stop-first"`
	// How many replicas may be missing during a rollout: a count, or a percentage of `replicas`, rounded down. 1 with `stop-first`, 0 with `start-first` unless given.
	MaxUnavailable Share `json:"max_unavailable,omitzero" iac:"optional"`
	// How many replicas there may be beyond `replicas` during a rollout: a count, or a percentage of `replicas`, rounded up. 0 with `stop-first`, 1 with `start-first` unless given.
	MaxSurge Share `json:"max_surge,omitzero" iac:"optional"`
	// How long a new replica has to be ready without a break before the rollout goes on.
	MinReady Duration `json:"min_ready,omitempty" iac:"default=0s"`
	// How long a rollout may take to come one replica further before it counts as failed.
	ProgressDeadline Duration `json:"progress_deadline,omitempty" iac:"default=10m"`
	// What happens when the new revision can't run: `pause` leaves everything as it is until the new replicas run or the service is changed, `rollback` goes back to the last revision that ran.
	OnFailure string `json:"on_failure,omitempty" iac:"default=pause"`
}

// The values of Order.
const (
	StopFirst  = "stop-first"
	StartFirst = "start-first"
)

// The values of OnFailure.
const (
	OnFailurePause    = "pause"
	OnFailureRollback = "rollback"
)

// DefaultProgressDeadline is that of Kubernetes and Nomad.
const DefaultProgressDeadline = Duration(10 * time.Minute)

// SetDefaults fills what was left out. Shares stay as they are: what stands for
// one that was not given depends on the order.
func (u *Update) SetDefaults() {
	setDefault(&u.Order, StopFirst)
	setDefault(&u.ProgressDeadline, DefaultProgressDeadline)
	setDefault(&u.OnFailure, OnFailurePause)
}

// Budget is what a rollout may spend at any one time.
type Budget struct {
	// Surge is how many replicas there may be beyond those of the service.
	Surge int
	// Unavailable is how many of the service's replicas may be missing.
	Unavailable int
}

// Budget gives the limits for a number of replicas. As in Kubernetes, a surge is
// rounded up and what may be missing down; where both come to nothing, one
// replica may be missing, or no rollout could ever begin.
func (u Update) Budget(replicas int) Budget {
	b := Budget{Unavailable: 1}
	if u.Order == StartFirst {
		b = Budget{Surge: 1}
	}
	if u.MaxSurge.Given {
		b.Surge = u.MaxSurge.up(replicas)
	}
	if u.MaxUnavailable.Given {
		b.Unavailable = u.MaxUnavailable.down(replicas)
	}
	if b.Surge == 0 && b.Unavailable == 0 {
		b.Unavailable = 1
	}
	return b
}

func (u Update) validate(p *Problems) {
	oneOf(p, "update.order", u.Order, StopFirst, StartFirst)
	oneOf(p, "update.on_failure", u.OnFailure, OnFailurePause, OnFailureRollback)
	if u.MaxUnavailable.Percent && u.MaxUnavailable.Amount > 100 {
		p.Addf("update.max_unavailable", "is %s; give at most 100%%", u.MaxUnavailable)
	}
	switch noSurge := u.MaxSurge.nothing() || !u.MaxSurge.Given && u.Order != StartFirst; {
	case u.Order == StartFirst && noSurge:
		p.Addf("update.max_surge", "is %s, and order is %s: nothing could start first; give 1 or more, or leave it out", u.MaxSurge, StartFirst)
	case u.MaxUnavailable.nothing() && noSurge:
		p.Addf("update.max_unavailable", "is %s, and so is max_surge: no replica could ever be replaced; give one of them 1 or more", u.MaxUnavailable)
	}
	if u.ProgressDeadline <= u.MinReady {
		p.Addf("update.progress_deadline", "is %s, and a replica has to be ready for %s (min_ready): give a longer one", u.ProgressDeadline, u.MinReady)
	}
}

// Share is a part of a service's replicas. In text it is a count ("2") or a
// percentage ("25%"). The zero Share was not given.
type Share struct {
	// Amount of replicas, or of hundredths of them.
	Amount int
	// Percent is true for hundredths.
	Percent bool
	// Given tells a share of nothing from none.
	Given bool
}

// maxShare keeps a share's product with any number of replicas in range.
const maxShare = 1_000_000

// ParseShare reads a share as Share describes it, from 0 to a million.
func ParseShare(text string) (Share, error) {
	number, percent := strings.CutSuffix(text, "%")
	amount, err := strconv.ParseUint(number, 10, 31)
	if err != nil || amount > maxShare {
		return Share{}, fmt.Errorf("%q is neither a count of replicas, like 2, nor a percentage of them, like 25%%", text)
	}
	return Share{Amount: int(amount), Percent: percent, Given: true}, nil
}

// String gives the text that ParseShare reads; nothing for none.
func (s Share) String() string {
	switch {
	case !s.Given:
		return ""
	case s.Percent:
		return strconv.Itoa(s.Amount) + "%"
	default:
		return strconv.Itoa(s.Amount)
	}
}

// MarshalText implements encoding.TextMarshaler.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Share) UnmarshalText(text []byte) (err error) {
	*s, err = ParseShare(string(text))
	return err
}

func (s Share) nothing() bool { return s.Given && s.Amount == 0 }

func (s Share) up(replicas int) int {
	if s.Percent {
		return (s.Amount*replicas + 99) / 100
	}
	return s.Amount
}

func (s Share) down(replicas int) int {
	if s.Percent {
		return min(s.Amount*replicas/100, replicas)
	}
	return min(s.Amount, replicas)
}
