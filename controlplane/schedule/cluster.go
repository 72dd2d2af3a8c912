package schedule

import (
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Cluster is nodes with what is placed on them. It belongs to one goroutine.
type Cluster struct {
	byID    map[resources.NodeID]*node
	tallies map[revision]*tally
	// byService and byImage find tallies.
	byService map[string]map[*tally]struct{}
	byImage   map[string]map[*tally]struct{}
	// priorities counts the replicas that could be preempted, by priority.
	priorities map[int]int
	// stopping counts the replicas that stop.
	stopping int

	// latest is the tally that was found last: the next one often is the same.
	latest *tally

	// The rest follows from the nodes, and is made by order.
	nodes      []*node // by name
	seats      []seat  // in the same order
	conditions map[string][]bool
	labels     map[string]*labelling
}

// node is a node with what is placed on it.
type node struct {
	*seat
	Node
	taints       []resources.Taint
	stopping     amount // by residents that stop
	residents    []resident
	ports        []portUse
	claimedPorts []portUse
	images       map[string]bool
}

// seat is what is looked at of every node for each demand. Seats stand in one
// list, in the order of their ranks: that decides how fast many are gone
// through.
type seat struct {
	all     amount // allocatable
	used    amount // by residents
	claimed amount // for replicas that wait until others have stopped, during one batch
	// rank is the node's index in Cluster.nodes.
	rank int32
	// closed is why the node takes no new replicas, or none.
	closed  Kind
	silent  bool
	tainted bool
}

// amount is of what a node has: millicores and bytes.
type amount struct{ cpu, memory int64 }

func (a *amount) add(b amount) { a.cpu, a.memory = a.cpu+b.cpu, a.memory+b.memory }
func (a *amount) sub(b amount) { a.cpu, a.memory = a.cpu-b.cpu, a.memory-b.memory }

// nothing is true where neither is left.
func (a amount) nothing() bool { return a.cpu <= 0 && a.memory <= 0 }

func (d *Demand) need() amount {
	return amount{int64(d.Resources.CPU), int64(d.Resources.Memory)}
}

// resident is a replica on a node.
type resident struct {
	id       resources.ReplicaID
	demand   *Demand
	stopping bool
}

// portUse is a port of a node that a resident publishes.
type portUse struct {
	port   port
	demand *Demand
}

// port is a published port and its protocol.
type port struct {
	number   int
	protocol string
}

// portsOf gives the ports that a replica takes of its node. Where all nodes publish
// a port, none is taken, but by a node that is on no network: it publishes the
// ports of its own replicas only, whatever their mode.
func portsOf(d *Demand, networked bool) []port {
	var ports []port
	for _, p := range d.Ports {
		if !networked || p.Mode != resources.PortCluster {
			ports = append(ports, port{p.Node(), p.Protocol})
		}
	}
	return ports
}

// networked is true where the node is on the cluster's networks.
func (n *node) networked() bool { return n.Overlay != nil }

// revision names a revision of a service.
type revision struct {
	service string
	number  int
}

// tally counts the replicas of a revision by node.
type tally struct {
	revision
	labels   map[string]string
	image    string
	replicas int
	on       map[*node]count
}

// count holds how many are wanted, and above those 32 bits how many stop.
type count uint64

const (
	oneWanted   count = 1
	oneStopping count = 1 << 32
)

func (c count) wanted() int32   { return int32(c & (oneStopping - 1)) }
func (c count) stopping() int32 { return int32(c >> 32) }
func (c count) all() int32      { return c.wanted() + c.stopping() }

// New makes a Cluster of nodes and what is placed on them.
func New(nodes []Node, replicas []Replica) *Cluster {
	c := &Cluster{
		byID: make(map[resources.NodeID]*node, len(nodes)), tallies: map[revision]*tally{},
		byService: map[string]map[*tally]struct{}{}, byImage: map[string]map[*tally]struct{}{},
		priorities: map[int]int{},
	}
	for _, n := range nodes {
		c.PutNode(n)
	}
	for _, r := range replicas {
		c.Add(r)
	}
	return c
}

// PutNode adds a node, or changes it; what is placed on it stays.
func (c *Cluster) PutNode(info Node) {
	n := c.byID[info.ID]
	if n == nil {
		n = &node{seat: &seat{}}
		c.byID[info.ID] = n
	}
	moved := n.networked() != (info.Overlay != nil)
	n.Node, n.all = info, amount{int64(info.Allocatable.CPU), int64(info.Allocatable.Memory)}
	n.silent, n.closed, n.tainted, n.taints = !info.Ready, none, len(info.Taints) > 0, nil
	switch {
	case info.Cordoned || info.Draining:
		n.closed = Cordoned
	case info.DiskPressure:
		n.closed = DiskFull
	}
	for _, text := range info.Taints {
		// The agent has checked them; one that can't be read taints nothing.
		if t, err := resources.ParseTaint(text); err == nil {
			n.taints = append(n.taints, t)
		}
	}
	if moved {
		n.ports = nil
		for _, r := range n.residents {
			n.publish(r.demand)
		}
	}
	n.images = map[string]bool{}
	for _, name := range info.Images {
		n.images[name] = true
	}
	c.nodes = nil
}

// RemoveNode forgets a node and what is placed on it.
func (c *Cluster) RemoveNode(id resources.NodeID) {
	n := c.byID[id]
	if n == nil {
		return
	}
	for _, r := range n.residents {
		c.count(n, r, -1)
	}
	delete(c.byID, id)
	c.nodes = nil
}

// Add reserves what the replica needs on its node. One whose node is unknown
// is passed over.
func (c *Cluster) Add(r Replica) {
	if n := c.byID[r.Node]; n != nil {
		c.settle(n, c.tally(r.Demand), resident{r.ID, r.Demand, r.Stopping})
	}
}

// Remove frees what a replica needs on its node.
func (c *Cluster) Remove(node resources.NodeID, id resources.ReplicaID) {
	n := c.byID[node]
	if n == nil {
		return
	}
	i := slices.IndexFunc(n.residents, func(r resident) bool { return r.id == id })
	if i < 0 {
		return
	}
	r := n.residents[i]
	n.residents = slices.Delete(n.residents, i, i+1)
	n.used.sub(r.demand.need())
	if r.stopping {
		n.stopping.sub(r.demand.need())
	}
	for _, p := range portsOf(r.demand, n.networked()) {
		j := slices.Index(n.ports, portUse{p, r.demand})
		n.ports = slices.Delete(n.ports, j, j+1)
	}
	c.count(n, r, -1)
}

// settle makes a replica a resident of the node. t is its tally.
func (c *Cluster) settle(n *node, t *tally, r resident) {
	if n.residents == nil {
		n.residents = make([]resident, 0, 16)
	}
	n.residents = append(n.residents, r)
	n.used.add(r.demand.need())
	if r.stopping {
		n.stopping.add(r.demand.need())
	}
	n.publish(r.demand)
	c.countIn(t, n, r, 1)
}

func (n *node) publish(d *Demand) {
	for _, p := range portsOf(d, n.networked()) {
		n.ports = append(n.ports, portUse{p, d})
	}
}

// count adds a resident to the counts, or takes it away.
func (c *Cluster) count(n *node, r resident, by int32) {
	t := c.tally(r.demand)
	c.countIn(t, n, r, by)
	c.tidy(t)
}

// tidy forgets a tally that counts nothing.
func (c *Cluster) tidy(t *tally) {
	if t.replicas == 0 {
		c.latest = nil
		delete(c.tallies, t.revision)
		drop(c.byService, t.service, t)
		drop(c.byImage, t.image, t)
	}
}

func drop(index map[string]map[*tally]struct{}, name string, t *tally) {
	delete(index[name], t)
	if len(index[name]) == 0 {
		delete(index, name)
	}
}

func (c *Cluster) countIn(t *tally, n *node, r resident, by int32) {
	one := oneWanted
	if r.stopping {
		one = oneStopping
		c.stopping += int(by)
	} else {
		c.priorities[r.demand.Placement.Priority] += int(by)
	}
	t.replicas += int(by)
	if by > 0 {
		t.on[n] += one
	} else if t.on[n] == one {
		delete(t.on, n)
	} else {
		t.on[n] -= one
	}
}

// tally finds the counts of the demand's revision, or begins them.
func (c *Cluster) tally(d *Demand) *tally {
	key := revision{d.Service, d.Revision}
	if c.latest != nil && c.latest.revision == key {
		return c.latest
	}
	t := c.tallies[key]
	if t == nil {
		t = &tally{revision: key, labels: d.Labels, image: d.Image, on: map[*node]count{}}
		c.tallies[key] = t
		index(c.byService, t.service, t)
		index(c.byImage, t.image, t)
	}
	c.latest = t
	return t
}

func index(all map[string]map[*tally]struct{}, name string, t *tally) {
	if all[name] == nil {
		all[name] = map[*tally]struct{}{}
	}
	all[name][t] = struct{}{}
}

// order ranks the nodes by name, where they have changed.
func (c *Cluster) order() {
	if c.nodes != nil {
		return
	}
	c.conditions, c.labels = map[string][]bool{}, map[string]*labelling{}
	c.nodes = make([]*node, 0, len(c.byID))
	for _, n := range c.byID {
		c.nodes = append(c.nodes, n)
	}
	slices.SortFunc(c.nodes, func(a, b *node) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	c.seats = make([]seat, len(c.nodes))
	for i, n := range c.nodes {
		c.seats[i] = *n.seat
		n.seat = &c.seats[i]
		n.rank = int32(i)
	}
}

// fulfil tells for each node whether it fulfils a condition about nodes.
func (c *Cluster) fulfil(condition resources.Condition) []bool {
	text := condition.String()
	if known, found := c.conditions[text]; found {
		return known
	}
	all := make([]bool, len(c.nodes))
	for i, n := range c.nodes {
		all[i] = condition.Matches(n.attribute(condition.Key))
	}
	c.conditions[text] = all
	return all
}

// attribute gives what conditions about nodes ask for.
func (n *node) attribute(key string) (string, bool) {
	switch key {
	case resources.KeyNodeName:
		return n.Name, true
	case resources.KeyNodeID:
		return string(n.ID), true
	}
	value, found := n.Labels[key]
	return value, found
}

// labelling is the values that nodes have of one label, numbered from 0 on.
type labelling struct {
	values int
	// of is the number of each node's value, and values where it has none.
	of []int32
}

func (c *Cluster) labelling(key string) *labelling {
	if known := c.labels[key]; known != nil {
		return known
	}
	numbers := map[string]int32{}
	l := &labelling{of: make([]int32, len(c.nodes))}
	for i, n := range c.nodes {
		l.of[i] = -1
		if value, found := n.Labels[key]; found {
			number, known := numbers[value]
			if !known {
				number = int32(len(numbers))
				numbers[value] = number
			}
			l.of[i] = number
		}
	}
	l.values = len(numbers)
	for i, number := range l.of {
		if number < 0 {
			l.of[i] = int32(l.values)
		}
	}
	c.labels[key] = l
	return l
}
