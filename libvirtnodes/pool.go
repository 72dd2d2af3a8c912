package libvirtnodes

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/skerry-io/skerry/resources"
)

// pool is a storage pool of the host, while it is in use.
type pool struct {
	host *Host
	pool *libvirt.StoragePool
	name string
	dir  string
}

// errNoVolume says that a pool has no volume of a name.
var errNoVolume = errors.New("there is no such volume")

// openPool finds an active pool of files. The caller frees it.
func (h *Host) openPool(name string) (*pool, error) {
	found, err := h.conn.LookupStoragePoolByName(name)
	if isCode(err, libvirt.ERR_NO_STORAGE_POOL) {
		return nil, resources.Invalid("pool", "hypervisor %s has no storage pool %q: make it (virsh pool-define-as %[2]s dir --target /var/lib/libvirt/images, virsh pool-start %[2]s), or name another one (virsh pool-list --all)", h.URI, name)
	}
	if err != nil {
		return nil, fmt.Errorf("find storage pool %s: %w", name, err)
	}
	p := &pool{host: h, pool: found, name: name}
	if err := p.check(); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

func (p *pool) free() { p.pool.Free() } //nolint:errcheck // it only gives memory back

func (p *pool) check() error {
	active, err := p.pool.IsActive()
	if err != nil {
		return fmt.Errorf("look at storage pool %s: %w", p.name, err)
	}
	if !active {
		return resources.Invalid("pool", "storage pool %s of hypervisor %s is not active: start it with virsh pool-start %[1]s", p.name, p.host.URI)
	}
	text, err := p.pool.GetXMLDesc(0)
	var described libvirtxml.StoragePool
	if err == nil {
		err = described.Unmarshal(text)
	}
	if err != nil {
		return fmt.Errorf("look at storage pool %s: %w", p.name, err)
	}
	if !slices.Contains([]string{"dir", "fs", "netfs"}, described.Type) || described.Target == nil {
		return resources.Invalid("pool", "storage pool %s is of type %s; a node's disks are files, so name a pool of type dir, fs or netfs", p.name, described.Type)
	}
	p.dir = described.Target.Path
	// Files that others made since are seen after a refresh only.
	if err := p.pool.Refresh(0); err != nil {
		p.host.log.Debug("a storage pool is not refreshed", "pool", p.name, "err", err)
	}
	return nil
}

func (p *pool) path(volume string) string { return filepath.Join(p.dir, volume) }

func (p *pool) volume(name string) (*libvirt.StorageVol, error) {
	volume, err := p.pool.LookupStorageVolByName(name)
	if isCode(err, libvirt.ERR_NO_STORAGE_VOL) {
		return nil, fmt.Errorf("find volume %s: %w", name, errNoVolume)
	}
	if err != nil {
		return nil, fmt.Errorf("find volume %s: %w", name, err)
	}
	return volume, nil
}

func (p *pool) has(name string) (bool, error) {
	volume, err := p.volume(name)
	if errors.Is(err, errNoVolume) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, volume.Free()
}

// size is the capacity of a volume.
func (p *pool) size(name string) (resources.Bytes, error) {
	volume, err := p.volume(name)
	if err != nil {
		return 0, err
	}
	defer volume.Free() //nolint:errcheck // it only gives memory back
	info, err := volume.GetInfo()
	if err != nil {
		return 0, fmt.Errorf("read the size of volume %s: %w", name, err)
	}
	return resources.Bytes(info.Capacity), nil
}

// resize grows a volume that no machine has open.
func (p *pool) resize(name string, size resources.Bytes) error {
	volume, err := p.volume(name)
	if err != nil {
		return err
	}
	defer volume.Free() //nolint:errcheck // it only gives memory back
	if err := volume.Resize(uint64(size), 0); err != nil {
		return fmt.Errorf("grow volume %s to %s: %w", name, size, err)
	}
	return nil
}

// remove removes a volume. An absent one is no error.
func (p *pool) remove(name string) error {
	volume, err := p.volume(name)
	if errors.Is(err, errNoVolume) {
		return nil
	}
	if err != nil {
		return err
	}
	defer volume.Free() //nolint:errcheck // it only gives memory back
	if err := volume.Delete(0); err != nil && !isCode(err, libvirt.ERR_NO_STORAGE_VOL) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// create makes a volume. backing names a volume of the pool, or is empty.
func (p *pool) create(name, format string, size resources.Bytes, backing string) error {
	described := libvirtxml.StorageVolume{
		Name:       name,
		Capacity:   &libvirtxml.StorageVolumeSize{Value: uint64(size), Unit: "bytes"},
		Allocation: &libvirtxml.StorageVolumeSize{Value: 0},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: format},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600"},
		},
	}
	if backing != "" {
		base, err := p.volume(backing)
		if err != nil {
			return err
		}
		defer base.Free() //nolint:errcheck // it only gives memory back
		described.BackingStore = &libvirtxml.StorageVolumeBackingStore{
			Path:   p.path(backing),
			Format: &libvirtxml.StorageVolumeTargetFormat{Type: p.format(base)},
		}
	}
	text, err := described.Marshal()
	if err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	volume, err := p.pool.StorageVolCreateXML(text, 0)
	if err != nil {
		return fmt.Errorf("make volume %s of %s in pool %s: %w", name, size, p.name, err)
	}
	return volume.Free()
}

// format is what libvirt found in a volume.
func (p *pool) format(volume *libvirt.StorageVol) string {
	text, err := volume.GetXMLDesc(0)
	var described libvirtxml.StorageVolume
	if err != nil || described.Unmarshal(text) != nil || described.Target == nil || described.Target.Format == nil {
		return "raw"
	}
	return described.Target.Format.Type
}

// baseOf names the base image of a root disk, or nothing where there is none.
func (p *pool) baseOf(name string) (string, error) {
	volume, err := p.volume(name)
	if errors.Is(err, errNoVolume) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer volume.Free() //nolint:errcheck // it only gives memory back
	text, err := volume.GetXMLDesc(0)
	var described libvirtxml.StorageVolume
	if err == nil {
		err = described.Unmarshal(text)
	}
	if err != nil {
		return "", fmt.Errorf("look at volume %s: %w", name, err)
	}
	if described.BackingStore == nil {
		return "", nil
	}
	return filepath.Base(described.BackingStore.Path), nil
}

// removeUnused removes a base image that no root disk of the pool rests on.
func (p *pool) removeUnused(base string) error {
	if !strings.HasPrefix(base, basePrefix) {
		return nil
	}
	all, err := p.pool.ListStorageVolumes()
	if err != nil {
		return fmt.Errorf("list the volumes of storage pool %s: %w", p.name, err)
	}
	for _, volume := range all {
		if of, err := p.baseOf(volume); err != nil || of == base {
			return err
		}
	}
	return p.remove(base)
}

// read returns the last n bytes of a volume, or all where n is 0.
func (p *pool) read(name string, n uint64) ([]byte, error) {
	volume, err := p.volume(name)
	if err != nil {
		return nil, err
	}
	defer volume.Free() //nolint:errcheck // it only gives memory back
	var offset uint64
	if n > 0 {
		info, err := volume.GetInfo()
		if err != nil {
			return nil, fmt.Errorf("read volume %s: %w", name, err)
		}
		offset = info.Capacity - min(info.Capacity, n)
	}
	return p.download(volume, offset, 0)
}

// head returns the first bytes of a volume.
func (p *pool) head(name string, n uint64) ([]byte, error) {
	volume, err := p.volume(name)
	if err != nil {
		return nil, err
	}
	defer volume.Free() //nolint:errcheck // it only gives memory back
	return p.download(volume, 0, n)
}

func (p *pool) download(volume *libvirt.StorageVol, offset, length uint64) ([]byte, error) {
	stream, err := p.host.conn.NewStream(0)
	if err != nil {
		return nil, fmt.Errorf("read a volume: %w", err)
	}
	defer stream.Free() //nolint:errcheck // it only gives memory back
	if err := volume.Download(stream, offset, length, 0); err != nil {
		return nil, fmt.Errorf("read a volume: %w", err)
	}
	var content []byte
	err = stream.RecvAll(func(_ *libvirt.Stream, chunk []byte) (int, error) {
		content = append(content, chunk...)
		return len(chunk), nil
	})
	if err != nil {
		return nil, fmt.Errorf("read a volume: %w", err)
	}
	return content, stream.Finish()
}

// write puts content at the beginning of a volume.
func (p *pool) write(name string, content []byte) error {
	volume, err := p.volume(name)
	if err != nil {
		return err
	}
	defer volume.Free() //nolint:errcheck // it only gives memory back
	return p.upload(volume, 0, content)
}

func (p *pool) upload(volume *libvirt.StorageVol, offset uint64, content []byte) error {
	return p.send(volume, offset, uint64(len(content)), 0, func(stream *libvirt.Stream) error {
		return stream.SendAll(func(_ *libvirt.Stream, most int) ([]byte, error) {
			n := min(most, len(content))
			chunk := content[:n]
			content = content[n:]
			return chunk, nil
		})
	})
}

func (p *pool) send(volume *libvirt.StorageVol, offset, length uint64, flags libvirt.StorageVolUploadFlags, fill func(*libvirt.Stream) error) error {
	stream, err := p.host.conn.NewStream(0)
	if err != nil {
		return fmt.Errorf("write a volume: %w", err)
	}
	defer stream.Free() //nolint:errcheck // it only gives memory back
	if err := volume.Upload(stream, offset, length, flags); err != nil {
		return fmt.Errorf("write a volume: %w", err)
	}
	if err := fill(stream); err != nil {
		stream.Abort() //nolint:errcheck // the first error counts
		return fmt.Errorf("write a volume: %w", err)
	}
	if err := stream.Finish(); err != nil {
		return fmt.Errorf("write a volume: %w", err)
	}
	return nil
}

// room refuses what the pool has no room for.
func (p *pool) room(need resources.Bytes) error {
	info, err := p.pool.GetInfo()
	if err != nil {
		return fmt.Errorf("look for room in storage pool %s: %w", p.name, err)
	}
	if free := resources.Bytes(info.Available); free < need {
		return resources.Invalid("pool", "storage pool %s (%s) has %s free, and the node needs %s to begin with: make room, or name another pool", p.name, p.dir, free, need)
	}
	return nil
}
