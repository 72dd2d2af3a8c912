package server

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/overlay"
	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/resources"
)

// drawn is what follows from a view for the networks of nodes, made when it is
// asked for first.
type drawn struct {
	draw, look sync.Once
	atlas      *overlay.Atlas
	told       []int64
}

func (v *view) atlas() *overlay.Atlas {
	v.drawn.draw.Do(func() {
		v.drawn.atlas = overlay.NewAtlas(clusterOf(v.state), func(r *resources.Replica) bool {
			return v.ready[r.Node] && rollout.Ready(v.seen[r.ID])
		})
	})
	return v.drawn.atlas
}

// told gives the revisions of the store at which replicas that have addresses
// were told to stop.
func (v *view) told() []int64 {
	v.drawn.look.Do(func() {
		for id, r := range v.state.Replicas.All() {
			if !r.Wanted && len(r.Addresses) > 0 {
				v.drawn.told = append(v.drawn.told, v.state.Replicas.Version(id))
			}
		}
	})
	return v.drawn.told
}

// getNetworkMap tells a node all that it has to know of the networks. A leader
// that has not heard of all nodes yet knows of few replicas that they are ready,
// and says nothing: nodes go on with what they know.
func (s *Server) getNetworkMap(w http.ResponseWriter, r *http.Request) {
	id := resources.NodeID(r.PathValue("id"))
	s.watch(w, r, func(v *view) any {
		switch {
		case !hasNode(v.state, id):
			return nil
		case !v.complete:
			return api.NotYet
		}
		return v.atlas().Map(id)
	})
}

// leaving gives the replicas on a node that are to stop, and that somebody may
// still be led to.
func (v *view) leaving(id resources.NodeID) []resources.ReplicaID {
	var all []resources.ReplicaID
	for _, r := range v.state.ReplicasOn(id) {
		if !r.Wanted && v.inRotation(&r) {
			all = append(all, r.ID)
		}
	}
	return all
}

// inRotation is true for a replica that is not wanted until every node that
// leads connections to its service has applied a map without it. A node that is
// silent holds nothing up: who knows when it comes back.
func (v *view) inRotation(r *resources.Replica) bool {
	if len(r.Addresses) == 0 {
		return false
	}
	// One that is said to be stopping may wait for this.
	if state := v.seen[r.ID].State; state == resources.ReplicaExited || state == resources.ReplicaGone {
		return false
	}
	if !v.complete {
		return true
	}
	told := v.state.Replicas.Version(r.ID)
	for id := range v.state.Nodes {
		if v.ready[id] && v.applied[id] < told && v.atlas().Shows(id, r) {
			return true
		}
	}
	return false
}

// applied hears which map a node has, and tells those whose replicas have waited
// for that.
func (s *Server) applied(id resources.NodeID, revision int64, now time.Time) {
	before := s.reports.apply(id, revision)
	if before == revision {
		return
	}
	v, _ := s.board.get()
	if slices.ContainsFunc(v.told(), func(told int64) bool { return before < told && told <= revision }) {
		s.board.put(v.state, now)
	}
}
