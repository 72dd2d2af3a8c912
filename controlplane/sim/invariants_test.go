package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/skerry-io/skerry/controlplane/server"
	"github.com/skerry-io/skerry/resources"
)

const (
	// strayTime is how long something may run or be wanted that the leader can
	// see to be too much: until the agent notices that its connections are dead
	// (three pulses, 9 s), has another one, and has reported.
	strayTime = 15 * time.Second
	// settleTime is how long it takes after the last fault until all is as wanted:
	// the longest wait of a replica that failed often (1 min), a few times, and
	// what moves one after the other.
	settleTime = 10 * time.Minute
)

// invariants are what must hold at each moment, whatever happens.
type invariants struct {
	*cluster
	// written are the numbers that the record of a service may have: that of the
	// last write that was acknowledged, and those since that were not. Zero is for
	// none.
	written map[string]map[int]bool
	// holders are the replicas that were the last to get a volume of a single
	// writer, by its name.
	holders map[string]*resources.Replica
	// since is when something that may be for a while was first seen.
	since map[string]time.Time
}

func newInvariants(c *cluster) *invariants {
	return &invariants{cluster: c, written: map[string]map[int]bool{}, holders: map[string]*resources.Replica{}, since: map[string]time.Time{}}
}

// numbered marks a service with the number of its write.
func numbered(s resources.Service, number int) resources.Service {
	s.Update.ProgressDeadline = resources.DefaultProgressDeadline + resources.Duration(number)*resources.Duration(time.Millisecond)
	return s
}

func numberOf(s resources.Service) int {
	return int((s.Update.ProgressDeadline - resources.DefaultProgressDeadline) / resources.Duration(time.Millisecond))
}

// wrote notes what came of a write; 0 is the number of a removal.
func (i *invariants) wrote(service string, number int, acknowledged bool) {
	may := i.written[service]
	if may == nil {
		may = map[int]bool{0: true}
	}
	if acknowledged {
		may = map[int]bool{}
	}
	may[number] = true
	i.written[service] = may
}

// check returns what does not hold.
func (i *invariants) check() error {
	for _, holds := range []func() error{i.nothingLost, i.notOvercommitted, i.oneWriter, i.writersWait} {
		if err := holds(); err != nil {
			return err
		}
	}
	return i.notForLong(append(i.doubles(), i.strays()...))
}

// notForLong bears with something for strayTime.
func (i *invariants) notForLong(what []string) error {
	for known := range i.since {
		if !slices.Contains(what, known) {
			delete(i.since, known)
		}
	}
	slices.Sort(what)
	for _, one := range what {
		if i.since[one].IsZero() {
			i.since[one] = time.Now()
		}
		if time.Since(i.since[one]) > strayTime {
			return fmt.Errorf("for more than %s: %s", strayTime, one)
		}
	}
	return nil
}

// nothingLost: an acknowledged write is never lost.
func (i *invariants) nothingLost() error {
	services := i.state().Services
	for _, name := range slices.Sorted(maps.Keys(i.written)) {
		number := 0
		if record, found := services[name]; found && !record.Deleting {
			number = numberOf(record.Service)
		}
		if !i.written[name][number] {
			return fmt.Errorf("service %s is of write %d, and may be of %v", name, number, slices.Sorted(maps.Keys(i.written[name])))
		}
	}
	return nil
}

// notOvercommitted: no node is promised more than it has, and no port twice.
func (i *invariants) notOvercommitted() error {
	state := i.state()
	for id, node := range state.Nodes {
		var cpu resources.MilliCPU
		var memory resources.Bytes
		ports := map[string]resources.ReplicaID{}
		for _, r := range state.ReplicasOn(id) {
			cpu, memory = cpu+r.Template.Resources.CPU, memory+r.Template.Resources.Memory
			for _, p := range r.Template.Ports {
				key := fmt.Sprintf("%d/%s", p.Node(), p.Protocol)
				if other, taken := ports[key]; taken {
					return fmt.Errorf("port %s of node %s is promised to %s and %s", key, id, other, r.ID)
				}
				ports[key] = r.ID
			}
		}
		if cpu > node.Allocatable.CPU || memory > node.Allocatable.Memory {
			return fmt.Errorf("node %s has promised %s and %s, and has %s and %s", id, cpu, memory, node.Allocatable.CPU, node.Allocatable.Memory)
		}
	}
	return nil
}

// oneWriter: a volume of a single writer is mounted by one container that runs,
// wherever it is and whoever can reach it.
func (i *invariants) oneWriter() error {
	writer := map[string]string{}
	for _, m := range i.nodes() {
		for _, one := range m.containers.replicas() {
			for _, name := range one.replica.Template.VolumeNames() {
				if !one.Running {
					continue
				}
				if other, has := writer[name]; has {
					return fmt.Errorf("volume %s is mounted by %s, and by %s on %s", name, other, one.ID, m.name)
				}
				writer[name] = one.ID + " on " + m.name
			}
		}
	}
	return nil
}

// writersWait: a volume of a single writer is given to one replica at a time, and
// to the next one only where nothing is left of the last, or its node was forgotten:
// a machine that is down keeps what it had.
func (i *invariants) writersWait() error {
	now := map[string]*resources.Replica{}
	for _, r := range i.state().Replicas.All() {
		for _, name := range r.Template.VolumeNames() {
			if r.Node == "" {
				continue
			}
			if other, has := now[name]; has {
				return fmt.Errorf("volume %s is given to %s and %s", name, other.ID, r.ID)
			}
			now[name] = r
		}
	}
	for name, r := range now {
		last, has := i.holders[name]
		i.holders[name] = r
		if !has || last.ID == r.ID {
			continue
		}
		m := i.machine(string(last.Node))
		if m != nil && slices.ContainsFunc(m.containers.replicas(), func(c container) bool { return c.Replica == last.ID }) {
			return fmt.Errorf("volume %s is given to %s, and %s is on %s still, which nobody has forgotten", name, r.ID, last.ID, m.name)
		}
	}
	return nil
}

// forgot notes that a node keeps nobody waiting any more.
func (i *invariants) forgot(id resources.NodeID) {
	maps.DeleteFunc(i.holders, func(_ string, r *resources.Replica) bool { return r.Node == id })
}

// reached is true for a node of the cluster that the leader can reach. A new leader hears
// everybody before it decides anything.
func (i *invariants) reached(m *machine) bool {
	leader := i.election.who()
	return slices.Contains(i.state().Cluster.Nodes, m.id) && leader != nil && i.election.reign() > server.NodeTimeout && leader.serves() && !leader.isStopped() && i.members.majority(leader) && m.runsAgent() && i.network.reach(leader, m)
}

// doubles: of each revision, one replica is wanted in a slot, among the nodes
// that the leader can reach.
func (i *invariants) doubles() []string {
	found := map[string][]resources.ReplicaID{}
	for _, r := range i.state().Replicas.All() {
		if m := i.machine(string(r.Node)); r.Wanted && m != nil && i.reached(m) {
			key := fmt.Sprintf("%s.%d%s/%d", r.Service, r.Slot, r.Only, r.Revision)
			found[key] = append(found[key], r.ID)
		}
	}
	var all []string
	for key, ids := range found {
		slices.Sort(ids)
		if len(ids) > 1 {
			all = append(all, fmt.Sprintf("slot %s has %v", key, ids))
		}
	}
	return all
}

// strays: what runs on a node that the leader can reach is wanted there.
func (i *invariants) strays() []string {
	state := i.state()
	var all []string
	for _, m := range i.nodes() {
		if !i.reached(m) || m.containers.faulty() {
			continue
		}
		for _, one := range m.containers.replicas() {
			if r := state.Replicas.Get(one.Replica); r.Node != m.id || !r.Wanted {
				all = append(all, fmt.Sprintf("%s is on %s, and nobody wants it there", one.ID, m.name))
			}
		}
	}
	return all
}

// settled says what is not as wanted, once no fault is left.
func (i *invariants) settled() error {
	var services []resources.ServiceStatus
	if !i.peek("/v1/services", &services) {
		return fmt.Errorf("no server leads")
	}
	for _, s := range services {
		explained := (s.State == resources.ServiceFailed || s.State == resources.ServiceWaiting) && s.Message != ""
		if s.State != resources.ServiceRunning && !explained {
			return fmt.Errorf("service %s is %s, %d of %d ready: %q", s.Service.Name, s.State, s.Ready, s.Service.Replicas, s.Message)
		}
	}
	state := i.state()
	for _, m := range i.nodes() {
		there := map[string]bool{}
		for _, one := range m.containers.replicas() {
			there[one.ID] = true
		}
		for _, r := range state.ReplicasOn(m.id) {
			if !r.Wanted {
				return fmt.Errorf("replica %s on %s has yet to go", r.ID, m.name)
			}
			if !there[string(r.ID)] {
				return fmt.Errorf("replica %s is not on %s", r.ID, m.name)
			}
			delete(there, string(r.ID))
		}
		if len(there) > 0 {
			return fmt.Errorf("%s has %v that nobody assigned", m.name, slices.Sorted(maps.Keys(there)))
		}
	}
	return nil
}
