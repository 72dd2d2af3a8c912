package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

// A drain is over once nothing is left on the node and as many replicas are ready
// as before.
func TestDrainIsWatched(t *testing.T) {
	service := func(name string, size, ready int, nodes ...resources.NodeID) resources.ServiceStatus {
		s := resources.ServiceStatus{Service: resources.Service{Name: name, Replicas: size}, Ready: ready}
		for _, node := range nodes {
			r := resources.ReplicaSummary{ID: resources.ReplicaID(name + "-0-x"), Node: node}
			if node == "" {
				r.Status.Message = "0 of 2 nodes fit"
			}
			s.Replicas = append(s.Replicas, r)
		}
		return s
	}
	type services = []resources.ServiceStatus
	for _, c := range []struct {
		name          string
		before, after services
		todo, waits   string
	}{
		{"nothing was there", services{service("web", 1, 1, "b")}, services{service("web", 1, 0, "b")}, "", ""},
		{"it has not begun", services{service("web", 2, 2, "a", "b")}, services{service("web", 2, 2, "a", "b")}, "1 replicas are left on it", ""},
		{"the other is not ready yet", services{service("web", 2, 2, "a", "b")}, services{service("web", 2, 1, "b", "b")}, "web has 1 of 2 replicas ready", ""},
		{"no place", services{service("web", 2, 2, "a", "b")}, services{service("web", 2, 1, "", "b")}, "web has 1 of 2 replicas ready", "web-0-x waits for a place: 0 of 2 nodes fit"},
		{"it was no better before", services{service("web", 2, 1, "a", "b")}, services{service("web", 2, 1, "b", "b")}, "", ""},
		{"a global service", services{service("web", 2, 2, "a", "b")}, services{service("web", 1, 1, "b")}, "", ""},
		{"the service was removed", services{service("web", 2, 2, "a", "b")}, nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			todo, waits := newDrain(resources.NodeStatus{NodeInfo: resources.NodeInfo{ID: "a"}}, c.before).left(c.after)
			if diff := cmp.Diff([]string{c.todo, c.waits}, []string{todo, waits}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
