package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/libvirtnodes"
	"github.com/skerry-io/skerry/provider/binary"
	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// Node is skerry_node.
type Node struct {
	resources.Node
	// ID of the node. It lives as long as the node's data.
	ID string `json:"id,omitempty" iac:"computed"`
	// First address of the node.
	Address string `json:"address,omitempty" iac:"computed"`
	// Addresses of the node's network cards.
	Addresses []string `json:"addresses,omitempty" iac:"computed"`
	// Fingerprint of the node's SSH host key.
	HostKey string `json:"host_key,omitempty" iac:"computed"`
	// Endpoint of the node, for `servers` of a cluster.
	Endpoint string `json:"endpoint,omitempty" iac:"computed"`
	// What the VM does: `running`, `stopped`, or `missing` where it was removed by hand. The last two are repaired by an apply.
	Status string `json:"status,omitempty" iac:"computed"`
}

var node = definition.Resource[*Connections, Node]{
	Name:     "node",
	Doc:      "A libvirt VM that is ready to run containers.",
	ImportID: "The ID is `NAME`, or `POOL/NAME` where the pool isn't `default`, with `@URI` of the hypervisor where it isn't the provider's.",
	Timeouts: definition.Timeouts{Create: 20 * time.Minute, Read: 2 * time.Minute, Update: 20 * time.Minute, Delete: 10 * time.Minute},
	Check:    func(n *Node) resources.Problems { return n.Validate() },
	Plan:     planNode,
	Clash:    sameAddress,
	Create:   createNode,
	Read:     readNode,
	Update:   updateNode,
	Delete:   deleteNode,
	Import:   importNode,
}

func planNode(_ context.Context, _ *Connections, p *definition.Planning[Node]) resources.Problems {
	if p.Prior == nil {
		return nil
	}
	var problems resources.Problems
	if p.Known("disk") && p.Planned.Disk < p.Prior.Disk {
		problems.Addf("disk", "is %s, and the disk has %s already; disks grow and never shrink", p.Planned.Disk, p.Prior.Disk)
	}
	had, has := p.Prior.DataDisk, p.Planned.DataDisk
	switch {
	case !p.Known("data_disk"):
	case had != nil && has != nil && has.Size < had.Size:
		problems.Addf("data_disk.size", "is %s, and the disk has %s already; disks grow and never shrink", has.Size, had.Size)
	case (had == nil) != (has == nil):
		p.Replace("data_disk")
	}
	if p.Prior.Status != string(libvirtnodes.Running) {
		p.MayChange("status")
	}
	if p.Prior.Status == string(libvirtnodes.Missing) {
		// What stood on the machine has to be made again, too.
		p.MayChange("address", "addresses", "host_key", "endpoint")
	}
	return problems
}

// spec is the node as libvirtnodes makes it.
func (c *Connections) spec(n *Node) (*libvirtnodes.Spec, error) {
	own, err := c.machines.PublicKeys()
	if err != nil {
		return nil, fmt.Errorf("log in to the node: %w", err)
	}
	s := &libvirtnodes.Spec{Node: n.Node, Program: binary.For, LoginKeys: append(slices.Clone(n.AuthorizedKeys), own...)}
	s.Mode = c.virtualization(&n.Node)
	if n.ID != "" {
		s.ID = resources.NodeID(n.ID)
	}
	return s, nil
}

func createNode(ctx context.Context, c *Connections, n *Node) error {
	host, s, err := c.open(n)
	if err != nil {
		return err
	}
	vm, err := host.Create(ctx, s)
	if err != nil {
		if vm == nil {
			return err
		}
		n.ID = string(vm.ID)
		return &definition.Partial{Err: err}
	}
	n.fill(vm)
	if err := c.await(ctx, host, s, vm, n); err != nil {
		return &definition.Partial{Err: err}
	}
	return nil
}

func (c *Connections) open(n *Node) (*libvirtnodes.Host, *libvirtnodes.Spec, error) {
	host, err := c.hypervisors.Host(c.hypervisor(&n.Node))
	if err != nil {
		return nil, nil, err
	}
	s, err := c.spec(n)
	return host, s, err
}

// fill takes what the hypervisor says of the node.
func (n *Node) fill(vm *libvirtnodes.VM) {
	n.ID, n.HostKey, n.Status = string(vm.ID), vm.HostKey, string(vm.State)
}

// consoleLines is how much of the console an error shows.
const consoleLines = 15

// await returns when the node's agent has answered, with the settings that may
// change while it runs.
func (c *Connections) await(ctx context.Context, host *libvirtnodes.Host, s *libvirtnodes.Spec, vm *libvirtnodes.VM, n *Node) error {
	addresses, err := host.Addresses(ctx, s)
	if err == nil {
		n.reachedAt(host, vm, addresses, c.bastion(host.URI))
		err = c.settle(ctx, s, n)
	}
	if err == nil {
		err = host.MarkReady(s)
	}
	if err != nil {
		return fmt.Errorf("%w\nThe last lines of the console of %s:\n  %s", err, n.Name, strings.Join(host.Console(n.Pool, n.Name, consoleLines), "\n  "))
	}
	return nil
}

func (n *Node) reachedAt(host *libvirtnodes.Host, vm *libvirtnodes.VM, addresses []string, bastion string) {
	n.Address, n.Addresses = addresses[0], addresses
	n.Endpoint = host.Endpoint(vm, n.Address, bastion).String()
}

// settle waits for the agent, and brings the running node's settings up to date.
func (c *Connections) settle(ctx context.Context, s *libvirtnodes.Spec, n *Node) error {
	endpoint, err := resources.ParseEndpoint(n.Endpoint)
	if err != nil {
		return err
	}
	agent := c.machines.Agent(endpoint)
	info, err := agent.Await(ctx)
	if err != nil {
		return err
	}
	if string(info.ID) != n.ID {
		return fmt.Errorf("the machine at %s is node %s, and not %s", n.Address, info.ID, n.ID)
	}
	if err := agent.Grow(ctx); err != nil {
		return err
	}
	_, err = agent.PutSettings(ctx, resources.NodeSettings{Labels: n.Labels, Taints: n.Taints, AuthorizedKeys: s.LoginKeys})
	return err
}

func readNode(_ context.Context, c *Connections, n *Node) (definition.Reading, error) {
	host, err := c.hypervisors.Host(c.hypervisor(&n.Node))
	if err != nil {
		return definition.Reading{Warnings: []string{fmt.Sprintf("the state of node %s stays as it was: %v", n.Name, err)}}, nil
	}
	vm, err := host.Find(n.Pool, n.Name)
	if errors.Is(err, libvirtnodes.ErrNotFound) || err == nil && n.ID != "" && string(vm.ID) != n.ID {
		return definition.Reading{Gone: true}, nil
	}
	if err != nil {
		return definition.Reading{}, err
	}
	n.fill(vm)
	n.CPUs, n.Memory, n.Disk, n.DataDisk, n.Autostart = vm.Node.CPUs, vm.Node.Memory, vm.Node.Disk, vm.Node.DataDisk, vm.Node.Autostart
	if vm.State != libvirtnodes.Running {
		return definition.Reading{}, nil
	}
	if now := host.AddressesNow(&libvirtnodes.Spec{Node: n.Node, ID: vm.ID}); len(now) > 0 && !slices.Equal(now, n.Addresses) {
		n.reachedAt(host, vm, now, c.bastion(host.URI))
	}
	return definition.Reading{}, nil
}

func updateNode(ctx context.Context, c *Connections, _, n *Node) error {
	host, s, err := c.open(n)
	if err != nil {
		return err
	}
	vm, err := host.Repair(ctx, s)
	if err != nil {
		return err
	}
	n.fill(vm)
	return c.await(ctx, host, s, vm, n)
}

// retainedPatience is how long a node that is to be removed may take to say
// what is on its data disk.
const retainedPatience = 15 * time.Second

func deleteNode(ctx context.Context, c *Connections, n *Node) ([]string, error) {
	host, err := c.hypervisors.Host(c.hypervisor(&n.Node))
	if err != nil {
		if c.settings.Unreachable == "forget" {
			return []string{fmt.Sprintf(`node %s is forgotten because of unreachable = "forget": %v`, n.Name, err)}, nil
		}
		return nil, unreachable(err)
	}
	vm, err := host.Find(n.Pool, n.Name)
	if errors.Is(err, libvirtnodes.ErrNotFound) || err == nil && n.ID != "" && string(vm.ID) != n.ID {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var warnings []string
	if err := c.leave(ctx, n, vm); err != nil {
		warnings = append(warnings, fmt.Sprintf("node %s goes, and its replicas with it: %v", n.Name, err))
	}
	retained := c.retained(ctx, n, vm)
	if err := host.Delete(ctx, n.Pool, n.Name, len(retained) > 0); err != nil {
		return warnings, err
	}
	if len(retained) == 0 {
		return warnings, nil
	}
	return append(warnings, fmt.Sprintf("the data disk of node %s is kept, because it holds %s. The next node of this name takes it up. To remove it: virsh -c %s vol-delete --pool %s %s-data.qcow2, and the same for %s.skerry.json",
		n.Name, strings.Join(retained, ", "), host.URI, n.Pool, n.Name, n.Name)), nil
}

// leavePatience is how long a node may take to move its replicas elsewhere. It is
// removed then all the same: the control plane replaces what is lost.
const leavePatience = 3 * time.Minute

// leave lets a node that runs move its replicas to other nodes.
func (c *Connections) leave(ctx context.Context, n *Node, vm *libvirtnodes.VM) error {
	if n.Endpoint == "" || vm.State != libvirtnodes.Running {
		return nil
	}
	endpoint, err := resources.ParseEndpoint(n.Endpoint)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	err = c.machines.Agent(endpoint).Leave(ctx, true)
	// One that is silent has nothing to say, and one of an earlier version can't.
	if client.IsUnreachable(err) || api.IsNotFound(err) {
		return nil
	}
	return err
}

// retained says what on the node's data disk outlives it. A node that can't say
// may hold anything.
func (c *Connections) retained(ctx context.Context, n *Node, vm *libvirtnodes.VM) []string {
	if vm.Node.DataDisk == nil || n.Endpoint == "" {
		return nil
	}
	unknown := []string{"what the node could not say, since it does not answer"}
	endpoint, err := resources.ParseEndpoint(n.Endpoint)
	if err != nil || vm.State != libvirtnodes.Running {
		return unknown
	}
	ctx, cancel := context.WithTimeout(ctx, retainedPatience)
	defer cancel()
	info, err := c.machines.Agent(endpoint).Node(ctx)
	if client.IsUnreachable(err) || err != nil {
		return unknown
	}
	return info.Retained
}

// importNode finds `NAME`, `POOL/NAME`, either with `@URI` of the hypervisor.
func importNode(ctx context.Context, c *Connections, id string) (*Node, error) {
	name, uri, _ := strings.Cut(id, "@")
	pool, rest, found := strings.Cut(name, "/")
	if !found {
		pool, rest = "default", name
	}
	n := &Node{Node: resources.Node{Name: rest, Pool: pool, Hypervisor: uri}}
	host, err := c.hypervisors.Host(c.hypervisor(&n.Node))
	if err != nil {
		return nil, err
	}
	vm, err := host.Find(pool, rest)
	if err != nil {
		return nil, fmt.Errorf("import %s: the ID is NAME, or POOL/NAME, and @URI of the hypervisor where it is not the provider's: %w", id, err)
	}
	n.Node = vm.Node
	n.fill(vm)
	if now := host.AddressesNow(&libvirtnodes.Spec{Node: n.Node, ID: vm.ID}); len(now) > 0 {
		n.reachedAt(host, vm, now, c.bastion(host.URI))
	}
	return n, ctx.Err()
}
