package server

import (
	"strings"
	"testing"

	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func TestASpreadOverALabelThatNobodyHas(t *testing.T) {
	zones := (&store.State{}).With(
		store.PutNode(resources.NodeInfo{ID: "n1", Labels: map[string]string{"zone": "a", "disk": "ssd"}}),
		store.PutNode(resources.NodeInfo{ID: "n2", Labels: map[string]string{"zone": "b"}}),
	)
	bare := (&store.State{}).With(store.PutNode(resources.NodeInfo{ID: "n1"}))
	for name, c := range map[string]struct {
		state *store.State
		over  []string
		want  string
	}{
		"one that is there": {zones, []string{"zone"}, ""},
		"one of some":       {zones, []string{"disk"}, ""},
		"a slip":            {zones, []string{"zone", "zoen"}, `placement.spread[1]: no node has a label "zoen"; there are: disk, zone`},
		"no labels":         {bare, []string{"zone"}, `no node has a label "zone"; there are: none`},
		"no nodes yet":      {(&store.State{}).With(), []string{"zone"}, ""},
	} {
		err := checkSpread(c.state, resources.Service{Placement: &resources.Placement{Spread: c.over}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkSpread(zones, resources.Service{}); err != nil {
		t.Error(err)
	}
}
