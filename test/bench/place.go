package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// placeCommand places a workload with our scheduler instead of the rest. It
// runs in a process of its own, as swarmkit's does.
const placeCommand = "place"

// place reads a workload, and writes how its placement went.
func place(in io.Reader, out io.Writer) error {
	var w workload
	if err := json.NewDecoder(in).Decode(&w); err != nil {
		return fmt.Errorf("read the workload: %w", err)
	}
	run := w.throughStore
	if w.PlanOnly {
		run = w.planOnly
	}
	result, err := run()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// throughStore does what the leader does: it loads a snapshot, plans, and
// commits. The clock stops when a watcher has loaded a state in which every
// replica has its node.
func (w workload) throughStore() (placed, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var s store.Memory
	if err := w.fill(ctx, &s); err != nil {
		return placed{}, err
	}
	changed := s.Watch(ctx)
	<-changed
	type sight struct {
		state *store.State
		err   error
	}
	seen := make(chan sight, 1)
	runtime.GC() // what fill has left is not for the clock
	began := time.Now()
	go func() {
		for range changed {
			state, err := s.Load(ctx)
			if err != nil || allPlaced(state) {
				seen <- sight{state, err}
				return
			}
		}
	}()
	if err := w.lead(ctx, &s); err != nil {
		return placed{}, err
	}
	last := <-seen
	if last.err != nil {
		return placed{}, last.err
	}
	result := placed{Seconds: time.Since(began).Seconds()}
	perNode := map[resources.NodeID]int{}
	for _, r := range last.state.Replicas.All() {
		if r.Service != fillerName {
			result.add(perNode, r.Node)
		}
	}
	return result, w.check(last.state)
}

func (p *placed) add(perNode map[resources.NodeID]int, node resources.NodeID) {
	perNode[node]++
	p.Placed++
	p.Nodes = len(perNode)
	p.Most = max(p.Most, perNode[node])
}

const fillerName = "filler"

// fill puts what there is into the store, replicas that wait included.
func (w workload) fill(ctx context.Context, s *store.Memory) error {
	var changes []store.Change
	for _, n := range w.Nodes {
		info := n.info()
		changes = append(changes, store.PutNode(info))
		filler := resources.Template{Image: "filler", Resources: reservation(n.FillerCPU, n.FillerMemory)}
		for i := range n.Fillers {
			id := resources.ReplicaID(fmt.Sprintf("filler-%s-%d", n.Name, i))
			changes = append(changes, store.PutReplica(resources.Replica{ID: id, Service: fillerName, Node: info.ID, Wanted: true, Template: filler}))
		}
	}
	for _, service := range w.Services {
		record := service.record()
		changes = append(changes, store.PutService(record))
		for slot := range service.Replicas {
			id := resources.ReplicaID(fmt.Sprintf("%s-%d-abcdef", service.Name, slot))
			changes = append(changes, store.PutReplica(resources.Replica{
				ID: id, Service: service.Name, Slot: slot, Revision: 1, Wanted: true, Template: record.Service.Template,
			}))
		}
	}
	empty, err := s.Load(ctx)
	if err != nil {
		return err
	}
	return s.Commit(ctx, empty, changes)
}

func (n workNode) info() resources.NodeInfo {
	return resources.NodeInfo{
		ID: resources.NodeID("id-" + n.Name), Name: n.Name, Labels: n.Labels,
		Allocatable: resources.Capacity{CPU: resources.MilliCPU(n.CPU), Memory: resources.Bytes(n.Memory)},
	}
}

func reservation(cpu, memory int64) resources.Reservation {
	return resources.Reservation{CPU: resources.MilliCPU(cpu), Memory: resources.Bytes(memory)}
}

func (s workService) record() resources.ServiceRecord {
	service := resources.Service{Name: s.Name, Replicas: s.Replicas, Template: resources.Template{Image: "registry.example/" + s.Name}}
	service.Resources = reservation(s.CPU, s.Memory)
	service.Placement = &resources.Placement{}
	if c := s.Constraint; c != nil {
		service.Placement.Constraints = []string{c[0] + " " + c[1] + " " + c[2]}
	}
	if s.Spread != "" {
		service.Placement.Spread = []string{s.Spread}
	}
	service.SetDefaults()
	return resources.ServiceRecord{Service: service, Revision: 1}
}

// lead takes one step of the leader, as far as it is about placement.
func (w workload) lead(ctx context.Context, s *store.Memory) error {
	state, err := s.Load(ctx)
	if err != nil {
		return err
	}
	nodes := make([]schedule.Node, 0, len(state.Nodes))
	for _, info := range state.Nodes {
		nodes = append(nodes, schedule.Node{NodeInfo: info, Ready: true})
	}
	demands := map[string]*schedule.Demand{}
	running := make([]schedule.Replica, 0, state.Replicas.Len())
	var pending []schedule.Replica
	for id, r := range state.Replicas.All() {
		if demands[r.Service] == nil {
			demands[r.Service] = schedule.DemandOf(*r, state.Services[r.Service].Service.Placement)
		}
		one := schedule.Replica{ID: id, Demand: demands[r.Service], Node: r.Node}
		if r.Node == "" {
			pending = append(pending, one)
		} else {
			running = append(running, one)
		}
	}
	decisions := schedule.New(nodes, running).Place(pending)
	changes := make([]store.Change, 0, len(decisions))
	for _, d := range decisions {
		if d.Refusal != nil {
			return fmt.Errorf("%s is not placed: %s", d.Replica, d.Refusal)
		}
		r := state.Replicas.Get(d.Replica)
		r.Node = d.Node
		changes = append(changes, store.PutReplica(r))
	}
	return s.Commit(ctx, state, changes)
}

func allPlaced(state *store.State) bool {
	for _, r := range state.Replicas.All() {
		if r.Node == "" {
			return false
		}
	}
	return true
}

// check refuses a result that nobody would want.
func (w workload) check(state *store.State) error {
	for _, n := range w.Nodes {
		info := n.info()
		var sum resources.Capacity
		for _, r := range state.ReplicasOn(info.ID) {
			sum.CPU, sum.Memory = sum.CPU+r.Template.Resources.CPU, sum.Memory+r.Template.Resources.Memory
			if p := state.Services[r.Service].Service.Placement; p != nil {
				for _, text := range p.Constraints {
					c, err := resources.ParseCondition(text)
					if value, found := n.Labels[c.Key]; err != nil || !c.Matches(value, found) {
						return fmt.Errorf("%s is on %s, against %s", r.ID, n.Name, text)
					}
				}
			}
		}
		if sum.CPU > info.Allocatable.CPU || sum.Memory > info.Allocatable.Memory {
			return fmt.Errorf("%s has promised %v", n.Name, sum)
		}
	}
	return nil
}

// planOnly times the planner: from nodes and waiting replicas to decisions.
func (w workload) planOnly() (placed, error) {
	var nodes []schedule.Node
	for _, n := range w.Nodes {
		nodes = append(nodes, schedule.Node{NodeInfo: n.info(), Ready: true})
	}
	pending := make([]schedule.Replica, 0, w.replicas())
	for _, service := range w.Services {
		record := service.record().Service
		demand := schedule.DemandOf(resources.Replica{Service: service.Name, Template: record.Template}, record.Placement)
		for slot := range service.Replicas {
			pending = append(pending, schedule.Replica{ID: resources.ReplicaID(fmt.Sprintf("%s-%d-abcdef", service.Name, slot)), Demand: demand})
		}
	}
	began := time.Now()
	decisions := schedule.New(nodes, nil).Place(pending)
	result := placed{Seconds: time.Since(began).Seconds()}
	perNode := map[resources.NodeID]int{}
	for _, d := range decisions {
		if d.Node == "" {
			return result, errors.New(d.Refusal.String())
		}
		result.add(perNode, d.Node)
	}
	return result, nil
}

// peakMemory is the most memory that a process had, in GiB.
func peakMemory(p *os.ProcessState) float64 {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return float64(usage.Maxrss) / (1 << 20) // Linux counts it in KiB
}
