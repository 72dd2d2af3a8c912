package libvirtnodes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/skerry-io/skerry/resources"
)

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
