package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// scene is a cluster whose agents do at once what they are told.
type scene struct {
	t     *testing.T
	store store.Memory
	seen  rollout.Seen
}

func (s *scene) commit(changes ...store.Change) {
	s.t.Helper()
	if err := s.store.Commit(s.t.Context(), s.state(), changes); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) state() *store.State {
	state, err := s.store.Load(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return state
}

func (s *scene) node(name string, labels ...string) {
	n := resources.NodeInfo{ID: resources.NodeID(name), Name: name, Labels: map[string]string{}}
	n.Allocatable = resources.Capacity{CPU: 1000, Memory: resources.GiB}
	for i := 0; i < len(labels); i += 2 {
		n.Labels[labels[i]] = labels[i+1]
	}
	s.commit(store.PutNode(n))
}

func (s *scene) condition(name string, c resources.NodeConditionType) {
	n := s.state().Nodes[resources.NodeID(name)]
	n.Conditions = []resources.NodeCondition{{Type: c}}
	s.commit(store.PutNode(n))
}

func (s *scene) service(name string, replicas int, change func(*resources.Service)) {
	service := resources.Service{Name: name, Replicas: replicas, Placement: &resources.Placement{}, Template: resources.Template{Image: "web"}}
	change(&service)
	service.SetDefaults()
	s.commit(store.PutService(resources.ServiceRecord{Service: service, Revision: 1}))
}

func (s *scene) view() *view {
	v := &view{state: s.state(), seen: s.seen, now: time.Unix(1000, 0), since: time.Unix(0, 0), ready: map[resources.NodeID]bool{}}
	for id := range v.state.Nodes {
		v.ready[id] = true
	}
	return v
}

// step lets the leader decide once and the agents act once, and gives what is
// wanted then, as in "web on a".
func (s *scene) step() string {
	s.commit(decide(s.view()).changes...)
	var shown []string
	for id, r := range s.state().Replicas.All() {
		state := resources.ReplicaRunning
		if !r.Wanted {
			state = resources.ReplicaGone
		}
		if r.Node != "" {
			s.seen[id] = resources.ReplicaStatus{ID: id, State: state}
		}
		text := r.Service + " on " + string(r.Node)
		switch {
		case !r.Wanted:
			text += ", stopping"
		case r.Node == "":
			text = r.Service + " waits: " + r.Waiting
		}
		shown = append(shown, text)
	}
	slices.Sort(shown)
	return strings.Join(shown, "; ")
}

// steps decides until nothing changes, and gives all that was shown.
func (s *scene) steps() []string {
	var all []string
	for range 20 {
		shown := s.step()
		if len(all) > 0 && all[len(all)-1] == shown {
			return all
		}
		all = append(all, shown)
	}
	s.t.Fatalf("the cluster does not come to rest: %q", all)
	return nil
}

func TestPlacementOverTime(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(s *scene)
		want []string
	}{
		{"a changed constraint replaces one replica after the other", func(s *scene) {
			s.node("a", "zone", "a")
			s.node("b", "zone", "b")
			s.service("web", 2, func(*resources.Service) {})
			s.steps()
			s.service("web", 2, func(service *resources.Service) { service.Placement.Constraints = []string{"zone == b"} })
		}, []string{
			"web on a, stopping; web on b", "web on b; web on b",
		}},
		{"one that no node meets stops at the first", func(s *scene) {
			s.node("a", "zone", "a")
			s.service("web", 2, func(*resources.Service) {})
			s.steps()
			s.service("web", 2, func(service *resources.Service) { service.Placement.Constraints = []string{"zone == c"} })
		}, []string{
			"web on a; web on a, stopping", "web on a; web waits: 0 of 1 nodes fit: 1 don't meet zone == c",
		}},
		{"the less important makes room", func(s *scene) {
			s.node("a")
			s.service("low", 1, func(service *resources.Service) { service.Resources.CPU = 800 })
			s.steps()
			s.service("high", 1, func(service *resources.Service) { service.Resources.CPU, service.Placement.Priority = 800, 5 })
		}, []string{
			"high waits: waits for a replica to stop on a; low on a, stopping",
			"high on a; low waits: 0 of 1 nodes fit: 1 lack cpu, nearest a by 600m",
		}},
		{"a global service follows the nodes", func(s *scene) {
			s.node("a")
			s.node("b")
			s.node("c", "bare", "yes")
			s.service("log", 1, func(service *resources.Service) {
				service.Mode, service.Placement.Constraints = resources.ModeGlobal, []string{"bare not exists"}
			})
			s.steps()
			s.commit(store.DeleteNode("a"))
			s.node("d")
		}, []string{"log on b; log on d"}},
		{"a full disk keeps what it has, and gets no more", func(s *scene) {
			s.node("a")
			s.service("web", 1, func(*resources.Service) {})
			s.steps()
			s.condition("a", resources.DiskPressure)
			s.service("web", 2, func(*resources.Service) {})
		}, []string{"web on a; web waits: 0 of 1 nodes fit: 1 short of disk"}},
		{"until there is room again", func(s *scene) {
			s.node("a")
			s.condition("a", resources.DiskPressure)
			s.service("web", 1, func(*resources.Service) {})
			s.steps()
			s.node("a")
		}, []string{"web on a"}},
		{"a wrong clock keeps nothing away", func(s *scene) {
			s.node("a")
			s.condition("a", resources.ClockSkew)
			s.service("web", 1, func(*resources.Service) {})
		}, []string{"web on a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &scene{t: t, seen: rollout.Seen{}}
			c.play(s)
			if diff := cmp.Diff(c.want, s.steps()); diff != "" {
				t.Errorf("replicas (-want +got):\n%s", diff)
			}
		})
	}
}

// A global service is complete with one replica on each node, and shows what
// the user wrote.
func TestStatusOfAGlobalService(t *testing.T) {
	s := &scene{t: t, seen: rollout.Seen{}}
	for i := range 3 {
		s.node(fmt.Sprint("n", i))
	}
	s.service("log", 1, func(service *resources.Service) { service.Mode = resources.ModeGlobal })
	s.steps()
	v := s.view()
	status := v.status(v.state.Services["log"])
	if status.State != resources.ServiceRunning || status.Ready != 3 || status.Service.Replicas != 1 {
		t.Errorf("the status is %s with %d of %d ready", status.State, status.Ready, status.Service.Replicas)
	}
	numbers := map[int]bool{}
	for _, r := range v.state.ReplicasOf("log") {
		numbers[r.Slot] = true
	}
	if len(numbers) != 3 {
		t.Errorf("the replicas have the numbers %v", numbers)
	}
}

func TestACycleOfAffinitiesIsRefused(t *testing.T) {
	follows := func(name, other string) resources.Service {
		return resources.Service{Name: name, Placement: &resources.Placement{Affinity: []string{"service == " + other}}}
	}
	state := (&store.State{}).With(store.PutService(resources.ServiceRecord{Service: follows("b", "c")}), store.PutService(resources.ServiceRecord{Service: follows("c", "a")}))
	err := checkAffinities(state, follows("a", "b"))
	if err == nil || !strings.Contains(err.Error(), "a -> b -> c -> a") {
		t.Errorf("the cycle gives %v", err)
	}
	if err := checkAffinities(state, follows("a", "d")); err != nil {
		t.Errorf("no cycle gives %v", err)
	}
}
