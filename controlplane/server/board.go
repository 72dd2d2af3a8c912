package server

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// view is what the leader sees at one moment. It is never changed.
type view struct {
	state *store.State
	seen  rollout.Seen
	ready map[resources.NodeID]bool
	// lost nodes have been silent for too long. held counts those that would be
	// lost, were they not so many.
	lost map[resources.NodeID]bool
	held int
	// complete is true once the leader has heard of every node what it can, and
	// applied is the revision of the network map that each node has.
	complete bool
	applied  map[resources.NodeID]int64
	// now is the moment, and since when the leader began.
	now, since time.Time
	drawn      drawn
	// scaling is what the autoscaler says, by service, where its time has come.
	scaling map[string]resources.ScaleDecision
}

func (v *view) status(service resources.ServiceRecord) resources.ServiceStatus {
	slots := v.slots(v.state, service)
	status := rollout.Status(slots.service, slots.replicas, v.rollout(v.state))
	status.Service.Replicas, status.Count = service.Service.Replicas, slots.service.Service.Replicas
	return status
}

// rollout gives the rollouts what they know.
func (v *view) rollout(state *store.State) rollout.View {
	silent := map[resources.NodeID]bool{}
	for id := range state.Nodes {
		if !v.ready[id] {
			silent[id] = true
		}
	}
	return rollout.View{Now: v.now, Since: v.since, Seen: v.seen, Nodes: state.Nodes, Silent: silent, Lost: v.lost}
}

// cluster gives the scheduler the nodes, with the replicas of the state that
// are placed, and those that wait for a place.
func (v *view) cluster(state *store.State) (cluster *schedule.Cluster, pending []schedule.Replica) {
	type revision struct {
		service string
		number  int
	}
	demands := map[revision]*schedule.Demand{}
	var placed []schedule.Replica
	for _, r := range sortedReplicas(state) {
		key := revision{r.Service, r.Revision}
		service := state.Services[r.Service].Service
		if demands[key] == nil {
			demands[key] = bind(schedule.DemandOf(r, service.Placement), state, &r.Template)
		}
		one := schedule.Replica{ID: r.ID, Demand: demands[key], Node: r.Node, Stopping: !r.Wanted}
		if service.Mode == resources.ModeGlobal {
			one.Only = r.Only
		}
		switch {
		case r.Node != "":
			placed = append(placed, one)
		case r.Wanted:
			pending = append(pending, one)
		}
	}
	return schedule.New(v.nodes(state), placed), pending
}

func (v *view) nodes(state *store.State) []schedule.Node {
	nodes := make([]schedule.Node, 0, len(state.Nodes))
	for id, info := range state.Nodes {
		nodes = append(nodes, schedule.Node{
			NodeInfo: info, Ready: v.ready[id],
			Cordoned: info.Availability != resources.NodeActive, Draining: info.Availability == resources.NodeDrained,
			DiskPressure: info.Has(resources.DiskPressure),
		})
	}
	return nodes
}

// board shows the latest view to every reader.
type board struct {
	reports *reports

	mu      sync.Mutex // guards both
	latest  *view
	changed chan struct{} // closed when there is a newer view
}

func newBoard(r *reports) *board {
	empty := (&store.State{}).With()
	return &board{reports: r, latest: &view{state: empty}, changed: make(chan struct{})}
}

// put shows the state, unless a newer one stands there, with what agents have
// reported by now, and returns what it shows. Neither half ever goes back,
// whoever is faster.
func (b *board) put(state *store.State, now time.Time) *view {
	b.mu.Lock()
	defer b.mu.Unlock()
	if state.Revision < b.latest.state.Revision {
		state = b.latest.state
	}
	b.latest = b.reports.view(state, now)
	close(b.changed)
	b.changed = make(chan struct{})
	return b.latest
}

// touch wakes who watches the board, for what is not on it.
func (b *board) touch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) get() (*view, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.latest, b.changed
}

// reports is what agents said last. It lives in memory: an agent repeats
// itself with each heartbeat.
type reports struct {
	news chan struct{} // holds a value when something has changed

	mu    sync.Mutex // guards all below
	began time.Time  // when the leader began
	awake time.Time  // when the server last was seen to run
	heard map[resources.NodeID]time.Time
	seen  map[resources.NodeID][]resources.ReplicaStatus
	// applied is the revision of the network map that each node has.
	applied map[resources.NodeID]int64
	// gone nodes are given up, and held ones fell silent with many others. They
	// are neither any more once they are heard.
	gone, held map[resources.NodeID]bool
}

func newReports() *reports {
	return &reports{
		news:  make(chan struct{}, 1),
		heard: map[resources.NodeID]time.Time{}, seen: map[resources.NodeID][]resources.ReplicaStatus{},
		applied: map[resources.NodeID]int64{},
		gone:    map[resources.NodeID]bool{}, held: map[resources.NodeID]bool{},
	}
}

// put takes a node's report, and returns the failures that are new in it.
func (r *reports) put(node resources.NodeID, statuses []resources.ReplicaStatus, now time.Time) []resources.ReplicaStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake(now)
	before := map[resources.ReplicaID]resources.ReplicaStatus{}
	for _, s := range r.seen[node] {
		before[s.ID] = s
	}
	known := now.Sub(r.heard[node]) < NodeTimeout && len(before) == len(statuses)
	var failures []resources.ReplicaStatus
	for i, s := range statuses {
		old := before[s.ID]
		s.ReadySince = readySince(old, s, now)
		statuses[i] = s
		known = known && reflect.DeepEqual(old, s)
		if s.Reason != "" && (s.Failures > old.Failures || s.Reason != old.Reason || s.Message != old.Message) {
			failures = append(failures, s)
		}
	}
	r.heard[node], r.seen[node] = now, statuses
	delete(r.gone, node)
	delete(r.held, node)
	if !known {
		select {
		case r.news <- struct{}{}:
		default:
		}
	}
	return failures
}

// pulse hears that the agent of a node is back and has nothing to tell yet. What
// it said before holds on; of a node that was not heard before, or that is given
// up, nothing does.
func (r *reports) pulse(node resources.NodeID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake(now)
	if at, heard := r.heard[node]; heard && now.Sub(at) < NodeTimeout {
		r.heard[node] = now
	}
}

// readySince is when a replica was first heard to be ready in its present run.
// The leader's own clock counts, whatever the node's says.
func readySince(old, s resources.ReplicaStatus, now time.Time) time.Time {
	switch {
	case !rollout.Ready(s):
		return time.Time{}
	case rollout.Ready(old) && old.StartedAt.Equal(s.StartedAt):
		return old.ReadySince
	default:
		return now
	}
}

// lead says when the leader began.
func (r *reports) lead(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began, r.awake = now, now
	// What was heard in an earlier term is old.
	clear(r.heard)
	clear(r.seen)
	clear(r.applied)
	clear(r.gone)
	clear(r.held)
}

// Pulse is how often a server sees to it that it runs.
const Pulse = time.Second

// maxPause is how long a server may be away unnoticed: not so long that a node
// could count as lost for it.
const maxPause = Heartbeat

// wake is called by whoever uses the reports, at least with each pulse. Where
// nobody has for longer, the server was stopped, as by a machine that was paused,
// and could not hear anybody meanwhile: that time is no silence of theirs. r.mu
// is held.
func (r *reports) wake(now time.Time) {
	away := now.Sub(r.awake)
	if away > maxPause && !r.awake.IsZero() {
		r.began = r.began.Add(away)
		for id, at := range r.heard {
			r.heard[id] = at.Add(away)
		}
	}
	if away > 0 {
		r.awake = now
	}
}

// keepAwake notices a server that is stopped, until ctx ends.
func (r *reports) keepAwake(ctx context.Context, ticks <-chan time.Time) {
	if ticks == nil {
		ticker := time.NewTicker(Pulse)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks:
			r.mu.Lock()
			r.wake(now)
			r.mu.Unlock()
		}
	}
}

// apply takes which network map a node has, and gives the one that it had.
func (r *reports) apply(node resources.NodeID, revision int64) (before int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.applied[node]
	r.applied[node] = revision
	return before
}

// complete is true once the leader has heard of every node what it can: a node
// has reported, or has been silent for as long as a lost one. Before that, what
// it has not heard of may well run.
func (r *reports) complete(state *store.State, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake(now)
	return r.heardAll(state, now)
}

// heardAll is complete, while r.mu is held.
func (r *reports) heardAll(state *store.State, now time.Time) bool {
	for id := range state.Nodes {
		if _, heard := r.heard[id]; !heard && now.Sub(r.began) < NodeTimeout {
			return false
		}
	}
	return true
}

func (r *reports) forget(node resources.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.heard, node)
	delete(r.seen, node)
	delete(r.applied, node)
	delete(r.gone, node)
	delete(r.held, node)
}

func (r *reports) view(state *store.State, now time.Time) *view {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake(now)
	v := &view{state: state, seen: rollout.Seen{}, ready: map[resources.NodeID]bool{}, now: now, since: r.began}
	v.lost, v.held = r.lost(state, now)
	v.complete, v.applied = r.heardAll(state, now), maps.Clone(r.applied)
	for node, statuses := range r.seen {
		v.ready[node] = now.Sub(r.heard[node]) < NodeTimeout
		for _, s := range statuses {
			// A replica is reported by the node that it is placed on.
			if state.Replicas.Get(s.ID).Node == node {
				v.seen[s.ID] = s
			}
		}
	}
	return v
}

// lost gives the nodes that are given up, until they are heard again. Where more
// than half of the others fall silent at once, which is within a heartbeat, those
// have manyLost longer, each of them, whoever is heard meanwhile; held counts
// them.
func (r *reports) lost(state *store.State, now time.Time) (lost map[resources.NodeID]bool, held int) {
	lost = map[resources.NodeID]bool{}
	var silent []resources.NodeID
	for id := range state.Nodes {
		switch {
		case r.gone[id]:
			lost[id] = true
		case now.Sub(r.lastWord(id)) >= NodeTimeout-Heartbeat:
			silent = append(silent, id)
		}
	}
	many := 2*len(silent) > len(state.Nodes)-len(lost)
	for _, id := range silent {
		r.held[id] = r.held[id] || many
		switch silence := now.Sub(r.lastWord(id)); {
		case silence < NodeTimeout:
		case r.held[id] && silence < NodeTimeout+manyLost:
			held++
		default:
			r.gone[id], lost[id] = true, true
		}
	}
	return lost, held
}

// lastWord is when a node was heard last, or when the leader began to listen.
func (r *reports) lastWord(id resources.NodeID) time.Time {
	if at, heard := r.heard[id]; heard {
		return at
	}
	return r.began
}

// nextSilence is how long it takes until a node that is heard now would count
// as lost, or one that was never heard.
func (r *reports) nextSilence(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := NodeTimeout
	for _, since := range append(slices.Collect(maps.Values(r.heard)), r.began) {
		for _, bound := range []time.Duration{NodeTimeout, NodeTimeout + manyLost} {
			if left := bound - now.Sub(since); left > 0 {
				next = min(next, left)
			}
		}
	}
	return next
}
