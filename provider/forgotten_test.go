package provider

import (
	"testing"

	"github.com/skerry-io/skerry/resources"
)

func TestAForgottenMachineIsDrift(t *testing.T) {
	machines := func(ids ...resources.NodeID) (all []machine) {
		for _, id := range ids {
			var m machine
			m.Node = id
			all = append(all, m)
		}
		return all
	}
	nodes := []resources.NodeStatus{{NodeInfo: resources.NodeInfo{ID: "a"}}, {NodeInfo: resources.NodeInfo{ID: "b"}}}
	for _, c := range []struct {
		machines []machine
		want     bool
	}{{machines("a", "b"), false}, {machines("a"), false}, {machines("a", "c"), true}, {machines("a", ""), false}} {
		if got := anyUnknown(c.machines, nodes); got != c.want {
			t.Errorf("%v: %t, want %t", c.machines, got, c.want)
		}
	}
}
