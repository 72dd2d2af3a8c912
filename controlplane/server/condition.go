package server

import (
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// conditionEvents tells what began and what ended between two reports of a node.
func conditionEvents(node string, before, after []resources.NodeCondition) []resources.Event {
	var all []resources.Event
	has := func(in []resources.NodeCondition, c resources.NodeCondition) bool {
		return slices.ContainsFunc(in, func(o resources.NodeCondition) bool { return o.Type == c.Type })
	}
	for _, c := range after {
		if !has(before, c) {
			all = append(all, resources.Event{Object: "node/" + node, Reason: string(c.Type), Message: c.Message})
		}
	}
	for _, c := range before {
		if !has(after, c) {
			all = append(all, resources.Event{Object: "node/" + node, Reason: string(c.Type), Message: "it is over"})
		}
	}
	return all
}
