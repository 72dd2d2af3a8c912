package server

import (
	"fmt"
	"maps"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// silence is what people were told of nodes that fall silent.
type silence struct {
	lost map[resources.NodeID]bool
	held bool
}

// tell says what is new since the last view: who is given up, who is back, and
// that so many are silent that nothing is moved for now.
func (s *silence) tell(v *view, cluster string) []resources.Event {
	var all []resources.Event
	for _, id := range slices.Sorted(maps.Keys(v.state.Nodes)) {
		object := "node/" + v.state.Nodes[id].Name
		switch {
		case v.lost[id] && !s.lost[id]:
			all = append(all, resources.Event{Object: object, Reason: "Lost", Message: "the node is silent, and its replicas are placed elsewhere"})
		case !v.lost[id] && s.lost[id]:
			all = append(all, resources.Event{Object: object, Reason: "Returned", Message: "the node is heard again"})
		}
	}
	if held := v.held > 0; held && !s.held {
		all = append(all, resources.Event{Object: "cluster/" + cluster, Reason: "ManySilent", Message: fmt.Sprintf(
			"more than half of the %d nodes fell silent at once: nothing of theirs is moved for %s, since it may be the servers that are cut off", len(v.state.Nodes), manyLost)})
	}
	s.lost, s.held = v.lost, v.held > 0
	return all
}
