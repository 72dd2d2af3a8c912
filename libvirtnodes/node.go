package libvirtnodes

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

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

func (p *pool) record(name string) (record, error) {
	text, err := p.read(recordVolume(name), 0)
	if err != nil {
		return record{}, err
	}
	r, err := decodeRecord(text)
	if err != nil {
		return record{}, fmt.Errorf("volume %s: %w", recordVolume(name), err)
	}
	return r, nil
}

func (p *pool) putRecord(r record) error {
	text, err := r.encode()
	if err != nil {
		return err
	}
	found, err := p.has(recordVolume(r.Name))
	if err == nil && !found {
		err = p.create(recordVolume(r.Name), "raw", recordSize, "")
	}
	if err == nil {
		err = p.write(recordVolume(r.Name), text)
	}
	if err != nil {
		return fmt.Errorf("keep the record of %s: %w", r.Name, err)
	}
	return nil
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

// ensure makes what is missing, in the order in which each thing rests on the
// ones before.
func (h *Host) ensure(ctx context.Context, p *pool, s *Spec, r record) (*VM, error) {
	s.ID = r.ID
	newRoot, err := h.ensureRoot(ctx, p, s)
	if err != nil {
		return nil, err
	}
	newData, err := h.ensureData(p, s)
	if err != nil {
		return nil, err
	}
	if newRoot {
		if r, err = h.makeSeed(p, s, r, newData); err != nil {
			return nil, err
		}
	}
	if found, err := p.has(seedVolume(s.Name)); err != nil {
		return nil, err
	} else if !found {
		// A seed serves the first boot only; an empty one lets the machine start.
		if err := p.create(seedVolume(s.Name), "raw", 1*resources.MiB, ""); err != nil {
			return nil, err
		}
	}
	d, err := h.define(p, s, r)
	if err != nil {
		return nil, err
	}
	defer d.Free() //nolint:errcheck // it only gives memory back
	if err := h.start(ctx, d, s); err != nil {
		return nil, err
	}
	return h.describe(p, r)
}

func (h *Host) ensureRoot(ctx context.Context, p *pool, s *Spec) (created bool, err error) {
	size, err := p.size(rootVolume(s.Name))
	if err == nil {
		return false, h.grow(p, s.Name, rootVolume(s.Name), "vda", "disk", size, s.Disk)
	}
	if !errors.Is(err, errNoVolume) {
		return false, err
	}
	base, err := h.ensureBase(ctx, p, s)
	if err != nil {
		return false, err
	}
	if least, err := p.size(base); err == nil && s.Disk < least {
		return false, resources.Invalid("disk", "is %s, and the image needs %s", s.Disk, least)
	}
	return true, p.create(rootVolume(s.Name), "qcow2", s.Disk, base)
}

// ensureBase brings the image to the pool, once.
func (h *Host) ensureBase(ctx context.Context, p *pool, s *Spec) (string, error) {
	if volume, known := volumeOf(s.Image); known {
		if done, err := p.complete(volume); err != nil || done {
			return volume, err
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	image, err := images{dir: filepath.Join(cache, "skerry", "images"), log: h.log}.get(ctx, s.Image)
	if err != nil {
		return "", err
	}
	defer image.close()
	done, err := p.complete(image.volume)
	if err != nil || done {
		return image.volume, err
	}
	if err := p.remove(image.volume); err != nil {
		return "", err
	}
	// Room for the image and a little to begin with: disks grow as they fill.
	if err := p.room(resources.Bytes(image.size) + 256*resources.MiB); err != nil {
		return "", err
	}
	h.log.Info("upload the image", "source", s.Image.Source, "pool", p.name, "volume", image.volume)
	return image.volume, p.uploadBase(image.volume, image.file, image.size)
}

func (h *Host) ensureData(p *pool, s *Spec) (created bool, err error) {
	if s.DataDisk == nil {
		return true, nil
	}
	size, err := p.size(dataVolume(s.Name))
	if errors.Is(err, errNoVolume) {
		return true, p.create(dataVolume(s.Name), "qcow2", s.DataDisk.Size, "")
	}
	if err != nil {
		return false, err
	}
	return false, h.grow(p, s.Name, dataVolume(s.Name), "vdb", "data_disk.size", size, s.DataDisk.Size)
}

// grow grows a disk, while the machine runs or not.
func (h *Host) grow(p *pool, name, volume, target, attribute string, from, to resources.Bytes) error {
	if to < from {
		return resources.Invalid(attribute, "is %s, and the disk has %s already: disks grow and never shrink", to, from)
	}
	if to == from {
		return nil
	}
	if d, err := h.conn.LookupDomainByName(name); err == nil {
		defer d.Free() //nolint:errcheck // it only gives memory back
		if active, err := d.IsActive(); err == nil && active {
			if err := d.BlockResize(target, uint64(to), libvirt.DOMAIN_BLOCK_RESIZE_BYTES); err != nil {
				return fmt.Errorf("grow %s of %s to %s: %w", attribute, name, to, err)
			}
			return p.pool.Refresh(0)
		}
	}
	return p.resize(volume, to)
}

// makeSeed makes the seed of a new root disk. A data disk that was there before
// has the node's host key; else a new key is made, and pinned.
func (h *Host) makeSeed(p *pool, s *Spec, r record, newData bool) (record, error) {
	var private string
	if newData {
		var err error
		if private, r.HostKey, err = newHostKey(); err != nil {
			return r, err
		}
		if err := p.putRecord(r); err != nil {
			return r, err
		}
	}
	files, err := seedFiles(s, private)
	if err != nil {
		return r, err
	}
	program, err := s.Program(h.GOARCH())
	if err != nil {
		return r, err
	}
	iso, err := seedISO(append(files, seedFile{"skerry", program}))
	if err != nil {
		return r, err
	}
	name := seedVolume(s.Name)
	if err := p.remove(name); err != nil {
		return r, err
	}
	if err := p.create(name, "raw", resources.Bytes(len(iso)), ""); err != nil {
		return r, err
	}
	return r, p.write(name, iso)
}

// define tells libvirt the domain as it is wanted.
func (h *Host) define(p *pool, s *Spec, r record) (*libvirt.Domain, error) {
	m := machine{
		spec: s, domainType: h.domainType(s.Mode), arch: h.arch,
		root: p.path(rootVolume(s.Name)), seed: p.path(seedVolume(s.Name)), consoleLog: p.path(consoleLog(s.Name)),
	}
	m.brokenCX16 = m.domainType == "qemu" && h.arch == "x86_64" && h.version < 8_000_000
	if s.DataDisk != nil {
		m.data = p.path(dataVolume(s.Name))
	}
	there, err := h.domain(r)
	switch {
	case err == nil:
		m.uuid, err = there.GetUUIDString()
		there.Free() //nolint:errcheck // it only gives memory back
		if err != nil {
			return nil, fmt.Errorf("look at machine %s: %w", s.Name, err)
		}
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	text, err := domainXML(m)
	if err != nil {
		return nil, err
	}
	d, err := h.conn.DomainDefineXML(text)
	if err != nil {
		return nil, fmt.Errorf("define machine %s: %w", s.Name, err)
	}
	if err := d.SetAutostart(s.Autostart); err != nil {
		return nil, resources.Invalid("autostart", "%v", err)
	}
	return d, nil
}

// shutdownPatience is how long a machine may take to shut down cleanly.
const shutdownPatience = 2 * time.Minute

// start starts the machine, or restarts it where it runs with other CPUs or
// memory than it is defined with.
func (h *Host) start(ctx context.Context, d *libvirt.Domain, s *Spec) error {
	info, err := d.GetInfo()
	if err != nil {
		return fmt.Errorf("look at machine %s: %w", s.Name, err)
	}
	active, err := d.IsActive()
	if err != nil {
		return fmt.Errorf("look at machine %s: %w", s.Name, err)
	}
	if active {
		if int(info.NrVirtCpu) == s.CPUs && resources.Bytes(info.MaxMem)*resources.KiB == s.Memory {
			return nil
		}
		h.log.Info("restart the machine, cleanly", "node", s.Name, "cpus", s.CPUs, "memory", s.Memory)
		if err := h.shutDown(ctx, d); err != nil {
			return err
		}
	}
	if err := d.Create(); err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID) {
		return fmt.Errorf("start machine %s: %w", s.Name, explainStart(err))
	}
	return nil
}

func explainStart(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "Permission denied"):
		return fmt.Errorf("%w; QEMU's user may not read the pool's files: make its directory passable (chmod o+x on it and those above), or use a pool under /var/lib/libvirt", err)
	case strings.Contains(text, "KVM") || strings.Contains(text, "kvm"):
		return fmt.Errorf(`%w; set virtualization = "qemu", or SKERRY_VIRTUALIZATION=qemu, to run without it`, err)
	}
	return err
}

// shutDown asks the machine to stop, and powers it off where it does not.
func (h *Host) shutDown(ctx context.Context, d *libvirt.Domain) error {
	patient, cancel := context.WithTimeout(ctx, shutdownPatience)
	defer cancel()
	if err := d.Shutdown(); err == nil {
		if err := h.awaitStop(patient, d); err == nil {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	h.log.Warn("the machine does not shut down, and is powered off")
	if err := d.Destroy(); err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID) {
		return fmt.Errorf("power off the machine: %w", err)
	}
	return nil
}

// Delete removes a node. With keepData its machine is shut down cleanly, and
// its data disk and its record stay, for the next node of the name.
func (h *Host) Delete(ctx context.Context, poolName, name string, keepData bool) error {
	p, err := h.openPool(poolName)
	if err != nil {
		return err
	}
	defer p.free()
	defer h.lockPool(poolName)()
	r, err := p.record(name)
	if errors.Is(err, errNoVolume) || err == nil && r.State == kept {
		return nil
	}
	if err != nil {
		return err
	}
	if keepData {
		if d, err := h.domain(r); err == nil {
			err = h.shutDown(ctx, d)
			d.Free() //nolint:errcheck // it only gives memory back
			if err != nil {
				return err
			}
		}
	}
	return h.remove(p, r, keepData)
}

// remove removes the domain and the volumes, the record last.
func (h *Host) remove(p *pool, r record, keepData bool) error {
	d, err := h.domain(r)
	if err == nil {
		err = undefine(d)
		d.Free() //nolint:errcheck // it only gives memory back
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := p.pool.Refresh(0); err != nil {
		return fmt.Errorf("refresh storage pool %s: %w", p.name, err)
	}
	base, err := p.baseOf(rootVolume(r.Name))
	if err != nil {
		return err
	}
	volumes := []string{rootVolume(r.Name), seedVolume(r.Name)}
	logs, err := p.consoleLogs(r.Name)
	if err != nil {
		return err
	}
	volumes = append(volumes, logs...)
	if keepData {
		r.State = kept
		if err := p.putRecord(r); err != nil {
			return err
		}
	} else {
		volumes = append(volumes, dataVolume(r.Name), recordVolume(r.Name))
	}
	for _, volume := range volumes {
		if err := p.remove(volume); err != nil {
			return err
		}
	}
	return p.removeUnused(base)
}

func undefine(d *libvirt.Domain) error {
	if err := d.Destroy(); err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID) && !isCode(err, libvirt.ERR_NO_DOMAIN) {
		return fmt.Errorf("power off the machine: %w", err)
	}
	flags := libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.DOMAIN_UNDEFINE_NVRAM
	if err := d.UndefineFlags(flags); err != nil && !isCode(err, libvirt.ERR_NO_DOMAIN) {
		return fmt.Errorf("remove the machine: %w", err)
	}
	return nil
}

// consoleLogs lists the console's log and what virtlogd turned over of it.
func (p *pool) consoleLogs(name string) ([]string, error) {
	all, err := p.pool.ListStorageVolumes()
	if err != nil {
		return nil, fmt.Errorf("list the volumes of storage pool %s: %w", p.name, err)
	}
	var logs []string
	for _, volume := range all {
		if volume == consoleLog(name) || strings.HasPrefix(volume, consoleLog(name)+".") {
			logs = append(logs, volume)
		}
	}
	return logs, nil
}
