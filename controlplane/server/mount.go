package server

import (
	"fmt"
	"slices"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// mounts tells who has which volume. A replica has its volumes from the moment
// that it is placed until its node says that nothing of it is left, or is no node
// of the cluster any more: where a node is silent, what it runs may well write.
type mounts struct {
	state *store.State
	// writer is the replica that has a volume of a single writer, and first the one
	// that is about to choose the node of a local volume.
	writer, first map[string]resources.ReplicaID
}

func mountsOf(state *store.State) *mounts {
	m := &mounts{state: state, writer: map[string]resources.ReplicaID{}, first: map[string]resources.ReplicaID{}}
	for _, r := range state.Replicas.All() {
		if r.Node != "" {
			m.take(r)
		}
	}
	return m
}

func (m *mounts) take(r *resources.Replica) {
	for _, name := range r.Template.VolumeNames() {
		record := m.state.Volumes[name]
		if record.Volume.Single() {
			m.writer[name] = r.ID
		}
		if record.Volume.Local() && record.Node == "" {
			m.first[name] = r.ID
		}
	}
}

// claim gives the replica its volumes, or says what it waits for.
func (m *mounts) claim(r *resources.Replica) (waiting string) {
	for _, name := range r.Template.VolumeNames() {
		record, found := m.state.Volumes[name]
		if !found {
			return fmt.Sprintf("there is no volume %s", name)
		}
		if holder, held := m.writer[name]; held && record.Volume.Single() {
			return fmt.Sprintf("volume %s has a single writer, and replica %s has it%s", name, holder, m.place(holder))
		}
		if holder, chosen := m.first[name]; chosen && record.Node == "" {
			return fmt.Sprintf("volume %s gets its node with replica %s first", name, holder)
		}
	}
	m.take(r)
	return ""
}

// place says where a replica is, and what to do where nobody hears of it.
func (m *mounts) place(id resources.ReplicaID) string {
	node := m.state.Replicas.Get(id).Node
	if node == "" {
		return ""
	}
	return fmt.Sprintf(" on node %s until nothing of it is left there; where that node never comes back, say so: skerry node forget %s", nodeName(m.state, node), nodeName(m.state, node))
}

// settle gives the local volumes of a replica that was placed their node, where
// they have none yet.
func settle(state *store.State, r resources.Replica) []store.Change {
	var changes []store.Change
	for _, name := range r.Template.VolumeNames() {
		if record, found := state.Volumes[name]; found && record.Volume.Local() && record.Node == "" {
			record.Node = r.Node
			changes = append(changes, store.PutVolume(record))
		}
	}
	return changes
}

// bind restricts a demand to where the volumes of its replicas are, or may be.
func bind(d *schedule.Demand, state *store.State, t *resources.Template) *schedule.Demand {
	for _, name := range t.VolumeNames() {
		record, found := state.Volumes[name]
		switch {
		case !found || !record.Volume.Local():
		case record.Node == "":
			d.Placement.Constraints = append(slices.Clone(d.Placement.Constraints), record.Volume.Constraints...)
		case d.Bound == nil:
			d.Bound = &schedule.Bound{Nodes: []resources.NodeID{record.Node}, To: "volume " + name + " on node " + nodeName(state, record.Node)}
		default:
			d.Bound = &schedule.Bound{
				Nodes: slices.DeleteFunc(slices.Clone(d.Bound.Nodes), func(id resources.NodeID) bool { return id != record.Node }),
				To:    d.Bound.To + " and volume " + name + " on node " + nodeName(state, record.Node),
			}
		}
	}
	return d
}
