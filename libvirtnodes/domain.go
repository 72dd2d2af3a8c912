package libvirtnodes

import (
	"encoding/xml"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/skerry-io/skerry/resources"
)

// machine is what the domain XML is made from: the spec, with everything that
// the hypervisor decided.
type machine struct {
	spec *Spec
	// domainType is kvm or qemu.
	domainType string
	arch       string
	// Paths of the disks on the hypervisor.
	root, data, seed string
	consoleLog       string
	// brokenCX16 is true where the emulator gets an instruction wrong; see cpu.
	brokenCX16 bool
	// uuid of a domain that is there already, or empty.
	uuid string
}

// markerNamespace is the XML namespace of the ownership marker.
const markerNamespace = "https://skerry.io/xmlns/node/1"

// marker is the ownership marker in a domain's metadata.
type marker struct {
	XMLName xml.Name         `xml:"https://skerry.io/xmlns/node/1 node"`
	ID      resources.NodeID `xml:"id,attr"`
}

// domainXML gives the domain as libvirt is told it.
func domainXML(m machine) (string, error) {
	metadata, err := xml.Marshal(marker{ID: m.spec.ID})
	if err != nil {
		return "", fmt.Errorf("write the domain's metadata: %w", err)
	}
	d := libvirtxml.Domain{
		Type: m.domainType, Name: m.spec.Name, UUID: m.uuid,
		Title:    "skerry node " + m.spec.Name,
		Metadata: &libvirtxml.DomainMetadata{XML: string(metadata)},
		Memory:   &libvirtxml.DomainMemory{Value: uint(m.spec.Memory / resources.KiB), Unit: "KiB"},
		VCPU:     &libvirtxml.DomainVCPU{Value: uint(m.spec.CPUs)},
		OS: &libvirtxml.DomainOS{
			Type: &libvirtxml.DomainOSType{Arch: m.arch, Machine: machineType(m.arch), Type: "hvm"},
		},
		CPU:        cpu(m),
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "restart",
		Devices: devices(m),
	}
	if m.arch == "aarch64" {
		d.OS.Firmware = "efi"
	} else {
		d.Features.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
	text, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the domain: %w", err)
	}
	return text, nil
}

func machineType(arch string) string {
	if arch == "aarch64" {
		return "virt"
	}
	return "q35"
}

// cpu gives all that the processor has. QEMU before 8.0 emulates cmpxchg16b with
// wrong flags once in a while, which a Linux kernel does not survive (a double
// fault in its memory allocator); without the feature it does otherwise.
func cpu(m machine) *libvirtxml.DomainCPU {
	if m.domainType == "kvm" {
		return &libvirtxml.DomainCPU{Mode: "host-passthrough"}
	}
	c := &libvirtxml.DomainCPU{Mode: "maximum"}
	if m.brokenCX16 {
		c.Features = []libvirtxml.DomainCPUFeature{{Policy: "disable", Name: "cx16"}}
	}
	return c
}

func devices(m machine) *libvirtxml.DomainDeviceList {
	d := &libvirtxml.DomainDeviceList{
		Disks: []libvirtxml.DomainDisk{disk(m.root, "vda", resources.RootSerial, "qcow2")},
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Target: &libvirtxml.DomainSerialTarget{Port: new(uint)},
			Log:    &libvirtxml.DomainChardevLog{File: m.consoleLog, Append: "on"},
		}},
		Channels: []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
			Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"}},
		}},
		RNGs: []libvirtxml.DomainRNG{{
			Model:   "virtio",
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
		}},
		MemBalloon: &libvirtxml.DomainMemBalloon{Model: "virtio"},
	}
	d.Disks[0].Boot = &libvirtxml.DomainDeviceBoot{Order: 1}
	seed := disk(m.seed, "vdc", resources.SeedSerial, "raw")
	seed.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	if m.data != "" {
		d.Disks = append(d.Disks, disk(m.data, "vdb", resources.DataSerial, "qcow2"))
	}
	d.Disks = append(d.Disks, seed)
	for i, card := range m.spec.cards() {
		d.Interfaces = append(d.Interfaces, networkCard(MAC(m.spec.ID, i), card))
	}
	return d
}

func disk(path, target, serial, format string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: format, Discard: "unmap"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: target, Bus: "virtio"},
		Serial: serial,
	}
}

func networkCard(mac string, a resources.Attachment) libvirtxml.DomainInterface {
	card := libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: mac},
		Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		Source: &libvirtxml.DomainInterfaceSource{},
	}
	if a.Network != "" {
		card.Source.Network = &libvirtxml.DomainInterfaceSourceNetwork{Network: a.Network}
	} else {
		card.Source.Bridge = &libvirtxml.DomainInterfaceSourceBridge{Bridge: a.Bridge}
	}
	return card
}
