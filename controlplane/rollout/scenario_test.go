package rollout_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/scenarios"
)

// The files in testdata are the specification, comments included. A line that
// is not indented is an event, and the indented lines below it are what the
// planner does about it. README.md there says which events there are.
func TestScenarios(t *testing.T) { scenarios.Run(t, play) }

// play writes the script anew, with what happens now.
func play(t *testing.T, script string) string {
	t.Helper()
	s := &scenario{T: t}
	var out strings.Builder
	for line := range strings.Lines(script) {
		switch {
		case strings.HasPrefix(line, " "):
			continue
		case strings.HasPrefix(line, "#") || line == "\n":
			out.WriteString(line)
			continue
		}
		out.WriteString(line)
		for _, did := range s.event(strings.Fields(line)) {
			fmt.Fprintf(&out, "    %s\n", did)
		}
	}
	return out.String()
}

type scenario struct {
	*testing.T
	*toy
	bad map[string]bool // images that can't run
}

// event carries out one line, and tells what the planner did.
func (s *scenario) event(words []string) []string {
	s.Helper()
	if words[0] == "service" {
		s.begin(words[1:])
		return s.lead()
	}
	switch words[0] {
	case "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			s.Fatal(err)
		}
		return s.wait(d)
	case "settle":
		return s.settle()
	case "status":
		return s.status()
	}
	if change := s.ofService(words); !change && !s.ofNode(words) && !s.ofReplica(words) {
		s.Fatalf("there is no event %q", words)
	}
	return s.lead()
}

func (s *scenario) begin(settings []string) {
	s.Helper()
	nodes, room := 1, 100
	service := resources.Service{Replicas: 1}
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		switch key {
		case "replicas":
			service.Replicas = s.number(value)
		case "nodes":
			nodes = s.number(value)
		case "room":
			room = s.number(value)
		default:
			s.set(&service.Update, key, value)
		}
	}
	s.toy, s.bad = newToy(service, nodes, room), map[string]bool{}
	s.fatal = s.Fatalf
}

func (s *scenario) set(u *resources.Update, key, value string) {
	s.Helper()
	var err error
	switch key {
	case "order":
		u.Order = value
	case "max_surge":
		u.MaxSurge, err = resources.ParseShare(value)
	case "max_unavailable":
		u.MaxUnavailable, err = resources.ParseShare(value)
	case "min_ready":
		u.MinReady, err = resources.ParseDuration(value)
	case "progress_deadline":
		u.ProgressDeadline, err = resources.ParseDuration(value)
	case "on_failure":
		u.OnFailure = value
	default:
		s.Fatalf("there is no setting %q", key)
	}
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scenario) number(text string) int {
	s.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// ofService is an event of what the user wants.
func (s *scenario) ofService(words []string) bool {
	switch words[0] {
	case "revise":
		s.revise(func(t *resources.Template) { t.Image = fmt.Sprintf("web:%d", s.service.Revision) })
		if len(words) > 1 {
			s.bad[s.service.Service.Image] = true
		}
	case "revert":
		s.revise(func(t *resources.Template) { t.Image = "web:" + words[1] })
	case "scale":
		s.service.Service.Replicas = s.number(words[1])
	case "update":
		key, value, _ := strings.Cut(words[1], "=")
		s.set(&s.service.Service.Update, key, value)
	case "delete":
		s.service.Deleting = true
	case "lead": // a new leader, which has heard of everything
		s.view.Since = s.view.Now
	default:
		return false
	}
	return true
}

func (s *scenario) ofNode(words []string) bool {
	var id resources.NodeID
	if len(words) > 1 {
		id = resources.NodeID(words[1])
	}
	switch words[0] {
	case "silence":
		s.view.Silent[id] = true
	case "lose":
		s.view.Lost[id] = true
	case "return":
		s.view.Silent[id], s.view.Lost[id] = false, false
	case "join":
		s.view.Nodes[id] = resources.NodeInfo{ID: id, Name: words[1]}
	default:
		return false
	}
	return true
}

func (s *scenario) ofReplica(words []string) bool {
	s.Helper()
	for _, word := range words[1:] {
		i := s.index(resources.ReplicaID(word))
		if i < 0 {
			s.Fatalf("%v: there is no replica %s", words, word)
		}
		r := s.replicas[i]
		switch words[0] {
		case "run":
			s.report(r.ID, resources.ReplicaRunning)
		case "pull":
			s.report(r.ID, resources.ReplicaPulling)
		case "crash":
			s.report(r.ID, resources.ReplicaBackoff, failed(1))
		case "fail":
			s.report(r.ID, resources.ReplicaBackoff, failed(rollout.FailuresToReport))
		case "end":
			s.report(r.ID, resources.ReplicaExited, func(s *resources.ReplicaStatus) { s.ExitCode = new(int) })
		case "gone":
			s.report(r.ID, resources.ReplicaGone)
		default:
			return false
		}
	}
	return true
}

// settle lets all agents work until nothing happens any more.
func (s *scenario) settle() []string {
	var lines []string
	for quiet := 0; quiet < 2; {
		s.work(func(r resources.Replica) bool { return s.bad[r.Template.Image] })
		did := s.lead()
		lines = append(lines, did...)
		quiet++
		if len(did) > 0 {
			quiet = 0
		}
		if s.ended {
			break
		}
	}
	return lines
}

func (s *scenario) status() []string {
	status := rollout.Status(s.service, s.replicas, s.view)
	lines := []string{fmt.Sprintf("revision %d: %s, %d of %d ready", status.Revision, status.State, status.Ready, s.service.Service.Replicas)}
	for line := range strings.Lines(status.Message) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	for _, r := range status.Replicas {
		wanted := ""
		if !r.Wanted {
			wanted = ", not wanted"
		}
		lines = append(lines, fmt.Sprintf("  %s of revision %d: %s%s", r.ID, r.Revision, r.Status.State, wanted))
	}
	return lines
}
