package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// What an agent says of its node is shown, and its begin and end are told.
func TestConditionsOfANode(t *testing.T) {
	c := start(t, &store.Memory{})
	node := nodeInfo("n1")
	c.admit(t, node.ID)
	full := []resources.NodeCondition{{Type: resources.DiskPressure, Message: "it is full", Since: time.Now().UTC()}}
	for _, conditions := range [][]resources.NodeCondition{nil, full, full, nil, full} {
		node.Conditions = conditions
		if err := c.PutNode(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := c.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 1 {
		t.Fatalf("nodes: %+v", nodes)
	}
	if diff := cmp.Diff(full, nodes[0].Conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	events, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []resources.Event{
		{Object: "node/n1", Reason: "Joined", Message: "the node joined the cluster", Count: 1},
		{Object: "node/n1", Reason: "DiskPressure", Message: "it is over", Count: 1},
		{Object: "node/n1", Reason: "DiskPressure", Message: "it is full", Count: 2},
	}
	if diff := cmp.Diff(want, events, cmpopts.IgnoreFields(resources.Event{}, "Time")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if ahead, known := c.Skew(); !known || ahead.Abs() > time.Second {
		t.Errorf("on one machine, the clocks differ by %s (known: %t)", ahead, known)
	}
}
