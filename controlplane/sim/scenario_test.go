package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/scenarios"
)

// The files in testdata are the specification, comments included. A line that
// is not indented is what happens, and the indented lines below it are what can
// be seen of it. README.md there says which words there are.
func TestScenarios(t *testing.T) { scenarios.Run(t, play) }

// play writes the script anew, with what happens now.
func play(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	simulate(t, 1, func(t *testing.T, c *cluster) {
		s := &scenario{T: t, cluster: c, services: map[string]resources.Service{}, told: map[resources.Event]bool{}}
		for line := range strings.Lines(script) {
			switch {
			case strings.HasPrefix(line, " "):
				continue
			case strings.HasPrefix(line, "#") || line == "\n":
				out.WriteString(line)
				continue
			}
			out.WriteString(line)
			for _, seen := range s.act(strings.Fields(line)) {
				fmt.Fprintf(&out, "    %s\n", seen)
			}
		}
	})
	return out.String()
}

// scenario plays one file.
type scenario struct {
	*testing.T
	*cluster
	services map[string]resources.Service
	told     map[resources.Event]bool
}

// act carries out one line, and returns what is seen of it.
func (s *scenario) act(words []string) []string {
	s.Helper()
	if len(s.servers()) == 0 {
		count := 1
		if words[0] == "servers" {
			count = s.number(words[1])
		}
		s.start(s.T, count)
	}
	do, found := commands[words[0]]
	if !found {
		s.Fatalf("there is no command %q", words[0])
	}
	lines := do(s, words[1:])
	synctest.Wait()
	return append(lines, s.news("")...)
}

// news tells what has happened: on the nodes, and what the leader says.
func (s *scenario) news(at string) []string {
	var lines []string
	for _, what := range s.happened() {
		lines = append(lines, at+what)
	}
	var events []resources.Event
	s.peek("/v1/events", &events)
	var said []string
	for _, e := range events {
		e.Time = e.Time.UTC()
		if !s.told[e] {
			s.told[e] = true
			said = append(said, plain(fmt.Sprintf("%s%s %s: %s", at, e.Object, e.Reason, e.Message)))
		}
	}
	slices.Sort(said)
	// How many counts are told on the way depends on which reports come together.
	said = slices.CompactFunc(said, func(a, b string) bool {
		const left = " Draining: replicas that are left on it: "
		before, _, is := strings.Cut(a, left)
		return is && strings.HasPrefix(b, before+left)
	})
	return append(lines, said...)
}

// status shows services as their users see them.
func (s *scenario) status([]string) []string {
	var all []resources.ServiceStatus
	if !s.peek("/v1/services", &all) {
		return []string{"no server leads"}
	}
	state := s.state()
	var lines []string
	for _, service := range all {
		lines = append(lines, fmt.Sprintf("%s: %s, revision %d, %d of %d ready", service.Service.Name, service.State, service.Revision, service.Ready, service.Count))
		if service.Message != "" {
			lines = append(lines, "  "+plain(service.Message))
		}
		var replicas []string
		for _, r := range service.Replicas {
			line := fmt.Sprintf("  %s %s", label(state.Replicas.Get(r.ID)), r.Status.State)
			if r.NodeName != "" {
				line += " on " + r.NodeName
			}
			if !r.Wanted {
				line += ", not wanted"
			}
			if r.Status.Message != "" {
				line += ": " + plain(r.Status.Message)
			}
			replicas = append(replicas, line)
		}
		slices.Sort(replicas)
		lines = append(lines, replicas...)
	}
	return lines
}

// show shows nodes: as the leader sees them, and what runs there.
func (s *scenario) show([]string) []string {
	var all []resources.NodeStatus
	known := s.peek("/v1/nodes", &all)
	var lines []string
	for _, m := range s.nodes() {
		line := m.name + ":"
		i := slices.IndexFunc(all, func(n resources.NodeStatus) bool { return n.ID == m.id })
		switch {
		case !known:
		case i < 0:
			line += " not registered,"
		case all[i].Ready:
			line += " ready,"
		default:
			line += " silent,"
		}
		if i >= 0 && all[i].Availability != "" {
			line += " " + string(all[i].Availability) + ","
		}
		var runs []string
		for _, one := range m.containers.replicas() {
			if one.Running {
				runs = append(runs, label(one.replica))
			}
		}
		slices.Sort(runs)
		if len(runs) == 0 {
			runs = []string{"nothing"}
		}
		lines = append(lines, line+" runs "+strings.Join(runs, " "))
	}
	return lines
}
