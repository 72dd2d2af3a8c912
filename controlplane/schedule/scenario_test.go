package schedule_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/scenarios"
)

// The files in testdata are the specification of the scheduler. Each begins
// with an empty cluster. A line is a command, a comment after #, or, below
// "----" and up to an empty line, what the commands before it came to:
//
//	node NAME cpu=2 memory=4GiB taint=gpu:NoSchedule image=nginx silent cordoned draining diskfull networked LABEL=VALUE...
//	forget NODE, or all and everything
//	service NAME cpu=100m memory=128MiB port=80/cluster image=nginx label.KEY=VALUE constraint="..." spread=LABEL strategy=binpack
//	        affinity="..." anti_affinity="..." tolerate=gpu max=1 priority=10 bound=NODE
//	run SERVICE NODE [COUNT]       replicas that are placed there already
//	stop SERVICE NODE [COUNT]      those that stop
//	place SERVICE=COUNT...         in one batch
//	only SERVICE NODE              places one on this node only
//	gone                           those that stop are gone
//	misplaced                      who has to leave
//	global SERVICE                 which nodes run it
//	rebalance LIMIT                who would be better elsewhere
//
// A node has 4 cores and 4GiB unless it says otherwise, and a service asks for
// 100m and 128MiB. What is not given twice has its last value; lists grow.
func TestScenarios(t *testing.T) { scenarios.Run(t, play) }

// play carries out a scenario, and gives its text with the outcomes as they are.
func play(t *testing.T, text string) string {
	var out, said strings.Builder
	s := newScene()
	skipping := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case skipping && line != "":
			continue
		case line == "----":
			out.WriteString("----\n" + said.String())
			said.Reset()
			skipping = true
			continue
		case line == "" || strings.HasPrefix(line, "#"):
		default:
			s.do(t, words(line), &said)
		}
		skipping = false
		out.WriteString(line + "\n")
	}
	if said.Len() > 0 {
		t.Errorf("this is said below the last ----:\n%s", said.String())
	}
	return out.String()
}

// words cuts a line at spaces outside of quotes.
func words(line string) []string {
	var all []string
	quoted := false
	for _, part := range strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	}) {
		all = append(all, strings.ReplaceAll(part, `"`, ""))
	}
	return all
}

// scene is a cluster with names for what is in it.
type scene struct {
	cluster  *schedule.Cluster
	services map[string]*schedule.Demand
	placed   []schedule.Replica
	numbers  map[string]int
}

func newScene() *scene {
	return &scene{cluster: schedule.New(nil, nil), services: map[string]*schedule.Demand{}, numbers: map[string]int{}}
}

func (s *scene) do(t *testing.T, words []string, out *strings.Builder) {
	t.Helper()
	args := words[1:]
	switch words[0] {
	case "node":
		s.cluster.PutNode(readNode(t, args))
	case "forget":
		if args[0] == "all" {
			*s = *newScene()
			return
		}
		s.cluster.RemoveNode(resources.NodeID(args[0]))
		s.placed = slices.DeleteFunc(s.placed, func(r schedule.Replica) bool { return string(r.Node) == args[0] })
	case "service":
		s.services[args[0]] = readService(t, args)
	case "run":
		for _, r := range s.make(args[0], number(t, args, 2)) {
			r.Node = resources.NodeID(args[1])
			s.add(r)
		}
	case "stop":
		s.stop(t, args[0], resources.NodeID(args[1]), number(t, args, 2))
	case "place":
		var pending []schedule.Replica
		for _, arg := range args {
			name, count, _ := strings.Cut(arg, "=")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, s.make(name, n)...)
		}
		s.show(out, pending, s.cluster.Place(pending))
	case "misplaced":
		for _, m := range s.cluster.Misplaced() {
			fmt.Fprintf(out, "%s leaves %s: %s\n", m.Replica, m.Node, m.Reason)
		}
	case "rebalance":
		for _, m := range s.cluster.Rebalance(number(t, args, 0)) {
			fmt.Fprintf(out, "%s from %s to %s: %s\n", m.Replica, m.From, m.To, m.Reason)
		}
	case "global":
		fmt.Fprintf(out, "%s runs on %v\n", args[0], s.cluster.GlobalNodes(s.services[args[0]]))
	case "only":
		pending := s.make(args[0], 1)
		pending[0].Only = resources.NodeID(args[1])
		s.show(out, pending, s.cluster.Place(pending))
	case "gone":
		s.gone()
	default:
		t.Fatalf("there is no command %q", words[0])
	}
}

func number(t *testing.T, args []string, at int) int {
	if len(args) <= at {
		return 1
	}
	n, err := strconv.Atoi(args[at])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// make makes replicas, numbered from 0 on.
func (s *scene) make(service string, count int) []schedule.Replica {
	var all []schedule.Replica
	for range count {
		id := resources.ReplicaID(fmt.Sprintf("%s-%d", service, s.numbers[service]))
		s.numbers[service]++
		all = append(all, schedule.Replica{ID: id, Demand: s.services[service]})
	}
	return all
}

func (s *scene) add(r schedule.Replica) {
	s.cluster.Add(r)
	s.placed = append(s.placed, r)
}

func (s *scene) stop(t *testing.T, service string, node resources.NodeID, count int) {
	for i := range s.placed {
		r := &s.placed[i]
		if count == 0 || r.Demand.Service != service || r.Node != node || r.Stopping {
			continue
		}
		count--
		s.cluster.Remove(r.Node, r.ID)
		r.Stopping = true
		s.cluster.Add(*r)
	}
	if count > 0 {
		t.Fatalf("node %s runs %d replicas of %s too few", node, count, service)
	}
}

// gone removes the replicas that stop.
func (s *scene) gone() {
	s.placed = slices.DeleteFunc(s.placed, func(r schedule.Replica) bool {
		if r.Stopping {
			s.cluster.Remove(r.Node, r.ID)
		}
		return r.Stopping
	})
}

// show tells what became of the replicas, by node and by refusal.
func (s *scene) show(out *strings.Builder, pending []schedule.Replica, decisions []schedule.Decision) {
	byPlace := map[string][]string{}
	for i, d := range decisions {
		place := "node " + string(d.Node)
		if d.Refusal != nil {
			place = "waiting, " + d.Refusal.String()
			if d.Refusal.Temporary() {
				place = "for now " + place
			}
		} else {
			pending[i].Node = d.Node
			s.placed = append(s.placed, pending[i])
		}
		if d.Preempt != nil {
			place += fmt.Sprintf("; stop %v", d.Preempt)
		}
		for i := range s.placed {
			s.placed[i].Stopping = s.placed[i].Stopping || slices.Contains(d.Preempt, s.placed[i].ID)
		}
		byPlace[place] = append(byPlace[place], string(d.Replica))
	}
	var places []string
	for place := range byPlace {
		places = append(places, place)
	}
	slices.Sort(places)
	for _, place := range places {
		fmt.Fprintf(out, "%s: %s\n", place, strings.Join(byPlace[place], " "))
	}
}

func readNode(t *testing.T, args []string) schedule.Node {
	n := schedule.Node{Ready: true}
	n.ID, n.Name, n.Labels = resources.NodeID(args[0]), args[0], map[string]string{}
	n.Allocatable = resources.Capacity{CPU: 4000, Memory: 4 * resources.GiB}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "cpu":
			n.Allocatable.CPU = read(t, resources.ParseMilliCPU, value)
		case "memory":
			n.Allocatable.Memory = read(t, resources.ParseBytes, value)
		case "taint":
			n.Taints = append(n.Taints, value)
		case "image":
			n.Images = append(n.Images, value)
		case "silent":
			n.Ready = false
		case "cordoned":
			n.Cordoned = true
		case "draining":
			n.Draining = true
		case "diskfull":
			n.DiskPressure = true
		case "networked":
			n.Overlay = &resources.NodeOverlay{}
		default:
			n.Labels[key] = value
		}
	}
	return n
}

func readService(t *testing.T, args []string) *schedule.Demand {
	d := &schedule.Demand{Service: args[0], Labels: map[string]string{}}
	d.Resources = resources.Reservation{CPU: 100, Memory: 128 * resources.MiB}
	p := &d.Placement
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "revision":
			d.Revision = read(t, strconv.Atoi, value)
		case "cpu":
			d.Resources.CPU = read(t, resources.ParseMilliCPU, value)
		case "memory":
			d.Resources.Memory = read(t, resources.ParseBytes, value)
		case "port":
			number, mode, _ := strings.Cut(value, "/")
			d.Ports = append(d.Ports, resources.Port{Target: read(t, strconv.Atoi, number), Protocol: "tcp", Mode: mode})
		case "image":
			d.Image = value
		case "constraint":
			p.Constraints = append(p.Constraints, value)
		case "spread":
			p.Spread = append(p.Spread, value)
		case "strategy":
			p.Strategy = value
		case "affinity":
			p.Affinity = append(p.Affinity, value)
		case "anti_affinity":
			p.AntiAffinity = append(p.AntiAffinity, value)
		case "tolerate":
			p.Tolerations = append(p.Tolerations, value)
		case "max":
			p.MaxReplicasPerNode = read(t, strconv.Atoi, value)
		case "priority":
			p.Priority = read(t, strconv.Atoi, value)
		case "bound":
			d.Bound = &schedule.Bound{To: "volume data", Nodes: []resources.NodeID{resources.NodeID(value)}}
		default:
			label, found := strings.CutPrefix(key, "label.")
			if !found {
				t.Fatalf("a service has no %q", key)
			}
			d.Labels[label] = value
		}
	}
	return d
}

func read[T any](t *testing.T, parse func(string) (T, error), text string) T {
	value, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
