package libvirtnodes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"libvirt.org/go/libvirt"

	"github.com/skerry-io/skerry/resources"
)

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
