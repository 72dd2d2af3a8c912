package libvirtnodes

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/skerry-io/skerry/resources"
)

// State is where a node's VM stands.
type State string

// The states of a VM.
const (
	Running State = "running"
	Stopped State = "stopped"
	// Missing: the record is there, and the domain is not.
	Missing State = "missing"
)

// VM is a node as its hypervisor has it.
type VM struct {
	ID      resources.NodeID
	HostKey string
	State   State
	// Node is what the user wrote when the node was last made what is wanted,
	// with CPUs, Memory, Disk, DataDisk and Autostart as they are now.
	Node resources.Node
}

// ErrNotFound says that a node is definitely not there.
var ErrNotFound = errors.New("there is no such node")

// The volumes of a node, beside its record.
func rootVolume(name string) string { return name + "-root.qcow2" }

func dataVolume(name string) string { return name + "-data.qcow2" }

func seedVolume(name string) string { return name + "-seed.iso" }

func consoleLog(name string) string { return name + "-console.log" }

// Find returns the node of that name in the pool, or ErrNotFound.
func (h *Host) Find(poolName, name string) (*VM, error) {
	p, err := h.openPool(poolName)
	if err != nil {
		return nil, err
	}
	defer p.free()
	r, err := p.record(name)
	if errors.Is(err, errNoVolume) || err == nil && r.State == kept {
		return nil, fmt.Errorf("find node %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return h.describe(p, r)
}

// describe looks at the domain and the disks of a recorded node.
func (h *Host) describe(p *pool, r record) (*VM, error) {
	vm := &VM{ID: r.ID, HostKey: r.HostKey, State: Missing, Node: r.Node}
	if size, err := p.size(rootVolume(r.Name)); err == nil {
		vm.Node.Disk = size
	}
	if size, err := p.size(dataVolume(r.Name)); err == nil {
		vm.Node.DataDisk = &resources.DataDisk{Size: size}
	} else if errors.Is(err, errNoVolume) {
		vm.Node.DataDisk = nil
	}
	d, err := h.domain(r)
	if errors.Is(err, ErrNotFound) {
		return vm, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Free() //nolint:errcheck // it only gives memory back
	text, err := d.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	var described libvirtxml.Domain
	if err == nil {
		err = described.Unmarshal(text)
	}
	if err != nil {
		return nil, fmt.Errorf("look at machine %s: %w", r.Name, err)
	}
	if described.VCPU != nil {
		vm.Node.CPUs = int(described.VCPU.Value)
	}
	if described.Memory != nil {
		vm.Node.Memory = resources.Bytes(described.Memory.Value) * resources.KiB // libvirt always answers in KiB
	}
	if vm.Node.Autostart, err = d.GetAutostart(); err != nil {
		return nil, fmt.Errorf("look at machine %s: %w", r.Name, err)
	}
	active, err := d.IsActive()
	if err != nil {
		return nil, fmt.Errorf("look at machine %s: %w", r.Name, err)
	}
	vm.State = Stopped
	if active {
		vm.State = Running
	}
	return vm, nil
}

// domain finds the domain of a node, or ErrNotFound. One of the same name that
// is not the node's is an error.
func (h *Host) domain(r record) (*libvirt.Domain, error) {
	d, err := h.conn.LookupDomainByName(r.Name)
	if isCode(err, libvirt.ERR_NO_DOMAIN) {
		return nil, fmt.Errorf("find machine %s: %w", r.Name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("find machine %s: %w", r.Name, err)
	}
	if id := domainID(d); id != r.ID {
		d.Free() //nolint:errcheck // it only gives memory back
		return nil, resources.Invalid("name", "hypervisor %s has a machine %q that is not this node: give the node another name, or remove that machine", h.URI, r.Name)
	}
	return d, nil
}

// domainID reads the ownership marker of a domain, which is empty where skerry
// did not make it.
func domainID(d *libvirt.Domain) resources.NodeID {
	text, err := d.GetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, markerNamespace, libvirt.DOMAIN_AFFECT_CONFIG)
	var m struct {
		ID resources.NodeID `xml:"id,attr"`
	}
	if err != nil || xml.Unmarshal([]byte(text), &m) != nil {
		return ""
	}
	return m.ID
}

// HasMachine tells whether the hypervisor has a machine of the node, running or
// not.
func (h *Host) HasMachine(id resources.NodeID) (bool, error) {
	domains, err := h.conn.ListAllDomains(0)
	if err != nil {
		return false, fmt.Errorf("list the machines of %s: %w", h.URI, err)
	}
	found := false
	for i := range domains {
		found = found || domainID(&domains[i]) == id
		domains[i].Free() //nolint:errcheck // it only gives memory back
	}
	return found, nil
}

// Create makes a new node and starts its VM. It is not ready before its agent
// answers; MarkReady keeps that it did. A node of the name that is ready
// already is an error; one that a killed create left is removed first, and a
// data disk that was kept is taken up. An error with a VM beside it has left
// something to remove.
func (h *Host) Create(ctx context.Context, s *Spec) (*VM, error) {
	p, err := h.openPool(s.Pool)
	if err != nil {
		return nil, err
	}
	defer p.free()
	defer h.lockPool(s.Pool)()
	if err := h.checkNetworks(s); err != nil {
		return nil, err
	}
	r, err := h.begin(p, s)
	if err != nil {
		return nil, err
	}
	if err := p.putRecord(r); err != nil {
		return nil, err
	}
	vm, err := h.ensure(ctx, p, s, r)
	if err != nil {
		return &VM{ID: r.ID, State: Missing, Node: s.Node}, err
	}
	return vm, nil
}

// begin gives the record of a node that is to be made, and removes what an
// earlier try left.
func (h *Host) begin(p *pool, s *Spec) (record, error) {
	fresh := record{Version: 1, ID: NewID(), Name: s.Name, State: creating, Node: s.Node}
	r, err := p.record(s.Name)
	switch {
	case errors.Is(err, errNoVolume):
		d, err := h.conn.LookupDomainByName(s.Name)
		if err == nil {
			d.Free() //nolint:errcheck // it only gives memory back
			return r, resources.Invalid("name", "hypervisor %s has a machine %q already, which skerry did not make: give the node another name, or remove that machine", h.URI, s.Name)
		}
		if !isCode(err, libvirt.ERR_NO_DOMAIN) {
			return r, fmt.Errorf("find machine %s: %w", s.Name, err)
		}
		return fresh, nil
	case err != nil:
		return r, err
	case r.State == ready:
		return r, resources.Invalid("name", "the node %q is there already, in pool %s of %s: take it over with `terraform import skerry_node.NAME %[2]s/%[1]s`, or give the node another name", s.Name, s.Pool, h.URI)
	case r.State == kept:
		if s.DataDisk == nil {
			return r, resources.Invalid("data_disk", "the data disk of an earlier node %q is kept in pool %s: give the node a data_disk to take it up, or remove the volumes %s and %s", s.Name, s.Pool, dataVolume(s.Name), recordVolume(s.Name))
		}
		h.log.Info("take up the data disk that an earlier node of the name left", "node", s.Name, "id", r.ID)
		fresh.ID, fresh.HostKey, fresh.KeepsData = r.ID, r.HostKey, true
		return fresh, nil
	default:
		h.log.Info("remove what an interrupted create left", "node", s.Name, "id", r.ID)
		if r.KeepsData {
			fresh.ID, fresh.HostKey, fresh.KeepsData = r.ID, r.HostKey, true
		}
		return fresh, h.remove(p, r, r.KeepsData)
	}
}

// Repair makes a node what the spec says, from whatever is left of it: growing
// disks, redefining and starting the VM, making again what is missing. A change
// of CPUs or memory restarts the machine cleanly.
func (h *Host) Repair(ctx context.Context, s *Spec) (*VM, error) {
	p, err := h.openPool(s.Pool)
	if err != nil {
		return nil, err
	}
	defer p.free()
	defer h.lockPool(s.Pool)()
	r, err := p.record(s.Name)
	if errors.Is(err, errNoVolume) {
		return nil, fmt.Errorf("find node %s: %w", s.Name, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	r.Node = s.Node
	return h.ensure(ctx, p, s, r)
}

// MarkReady keeps that the node has been ready: from now on nothing but a
// delete removes it.
func (h *Host) MarkReady(s *Spec) error {
	p, err := h.openPool(s.Pool)
	if err != nil {
		return err
	}
	defer p.free()
	defer h.lockPool(s.Pool)()
	r, err := p.record(s.Name)
	if err != nil {
		return err
	}
	r.State, r.Node = ready, s.Node
	return p.putRecord(r)
}
