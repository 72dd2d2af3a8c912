package libvirtnodes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
)

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
