package resources

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// NodeID names a machine for as long as its data lives: a new root disk keeps
// it, a new machine doesn't. It is 16 lower-case hexadecimal digits.
type NodeID string

// Node is a libvirt VM that is ready to run containers.
type Node struct {
	// Name of the VM, and of the machine that runs in it.
	Name string `json:"name" iac:"replace"`
	// Libvirt URI of the hypervisor that runs the VM, such as `qemu:///system` or `qemu+ssh://root@host/system`. The provider's `hypervisor` unless given.
	Hypervisor string `json:"hypervisor,omitempty" iac:"optional,replace"`
	// Storage pool that holds the node's disks. It must exist and be active.
	Pool string `json:"pool,omitempty" iac:"default=default,replace"`
	// Image that the root disk starts from. A new image replaces the node; the data disk stays.
	Image NodeImage `json:"image" iac:"replace"`
	// Virtual processors. A change restarts the machine, cleanly.
	CPUs int `json:"cpus,omitempty" iac:"default=2"`
	// Memory. A change restarts the machine, cleanly.
	Memory Bytes `json:"memory,omitempty" iac:"default=2GiB"`
	// Size of the root disk. It grows in place, and never shrinks.
	Disk Bytes `json:"disk,omitempty" iac:"default=10GiB"`
	// A second disk for what outlives the VM: volumes, the cluster's store, the node's identity.
	DataDisk *DataDisk `json:"data_disk,omitempty" iac:"optional"`
	// What the node is attached to, in the order of its network cards. One card on the network `default` unless given.
	Networks []Attachment `json:"networks,omitempty" iac:"optional,replace"`
	// Labels that placement can ask for.
	Labels map[string]string `json:"labels,omitempty" iac:"optional"`
	// Taints keep replicas away that don't tolerate them: `key=value:Effect`, with the effect `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
	Taints []string `json:"taints,omitempty" iac:"optional"`
	// SSH public keys that may log in, beside the key that the plugin itself uses.
	AuthorizedKeys []string `json:"authorized_keys,omitempty" iac:"optional"`
	// Start the VM when its hypervisor starts.
	Autostart bool `json:"autostart,omitempty" iac:"default=true"`
	// How the processor is run: `kvm`, `qemu` (emulated), or `auto`, which takes what works. The provider's `virtualization` unless given.
	Virtualization string `json:"virtualization,omitempty" iac:"optional,replace"`
	// Extra cloud-init user data (`#cloud-config`), for images that run cloud-init.
	UserData string `json:"user_data,omitempty" iac:"optional,replace"`
}

// NodeImage says where a node's image is found.
type NodeImage struct {
	// An `https://` or `http://` URL, or a path on this machine. qcow2 or raw; gzip, xz and zstd are unpacked.
	Source string `json:"source"`
	// Checksum of the file as it is downloaded: `sha256:HEX` or `sha512:HEX`.
	Checksum string `json:"checksum,omitempty" iac:"optional"`
}

// DataDisk is a node's second disk.
type DataDisk struct {
	// Size of the disk. It grows in place, and never shrinks.
	Size Bytes `json:"size"`
}

// Attachment is one network card of a node.
type Attachment struct {
	// Libvirt network. Give this, or `bridge`.
	Network string `json:"network,omitempty" iac:"optional"`
	// Bridge of the hypervisor. Give this, or `network`.
	Bridge string `json:"bridge,omitempty" iac:"optional"`
	// Static address with its prefix length, such as `192.168.122.10/24`. DHCP unless given.
	Address string `json:"address,omitempty" iac:"optional"`
	// Default gateway, with a static address.
	Gateway string `json:"gateway,omitempty" iac:"optional"`
	// Name servers, with a static address.
	DNS []string `json:"dns,omitempty" iac:"optional"`
}

// DefaultAttachment is the network card of a node that names none: libvirt's
// own NAT network.
var DefaultAttachment = Attachment{Network: "default"}

// The smallest node: less does not boot a Debian kernel with Podman reliably.
const (
	MinNodeMemory = 512 * MiB
	MinNodeDisk   = 2 * GiB
	MinDataDisk   = 256 * MiB
)

var (
	checksumPattern = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)
	labelPattern    = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_./]{0,61}[A-Za-z0-9])?$`)
)

// Validate returns every problem with what the user wrote.
func (n *Node) Validate() Problems {
	var p Problems
	checkName(&p, "name", n.Name)
	n.Image.validate(&p)
	if n.CPUs < 1 {
		p.Addf("cpus", "is %d; a node has at least 1", n.CPUs)
	}
	atLeast(&p, "memory", n.Memory, MinNodeMemory)
	atLeast(&p, "disk", n.Disk, MinNodeDisk)
	if n.DataDisk != nil {
		atLeast(&p, "data_disk.size", n.DataDisk.Size, MinDataDisk)
	}
	for i, attachment := range n.Networks {
		attachment.validate(&p, fmt.Sprintf("networks[%d]", i))
	}
	checkLabels(&p, "labels", n.Labels)
	checkTaints(&p, "taints", n.Taints)
	for i, key := range n.AuthorizedKeys {
		if len(strings.Fields(key)) < 2 || strings.ContainsAny(strings.TrimSpace(key), "\n\r") {
			p.Addf(fmt.Sprintf("authorized_keys[%d]", i), "is not a public key; give one line such as the content of ~/.ssh/id_ed25519.pub")
		}
	}
	switch n.Virtualization {
	case "", "auto", "kvm", "qemu":
	default:
		p.Addf("virtualization", "is %q; it is one of auto, kvm, qemu", n.Virtualization)
	}
	return p
}

func (i *NodeImage) validate(p *Problems) {
	if i.Source == "" {
		p.Addf("image.source", "is empty; give a URL or a path of a qcow2 or raw image (`make image` builds one)")
	}
	if i.Checksum != "" && !checksumPattern.MatchString(i.Checksum) {
		p.Addf("image.checksum", "is not a checksum; write sha256: or sha512: and the hexadecimal digits")
	}
}

func (a *Attachment) validate(p *Problems, path string) {
	if (a.Network == "") == (a.Bridge == "") {
		p.Addf(path, "names %s; give exactly one of network and bridge", map[bool]string{true: "neither", false: "both"}[a.Network == ""])
	}
	if a.Address == "" {
		if a.Gateway != "" || len(a.DNS) > 0 {
			p.Addf(path+".address", "is missing; gateway and dns go with a static address")
		}
		return
	}
	prefix, err := netip.ParsePrefix(a.Address)
	if err != nil {
		p.Addf(path+".address", "%q is not an address with its prefix length, like 192.168.122.10/24", a.Address)
	}
	if gateway, err := netip.ParseAddr(a.Gateway); a.Gateway != "" && (err != nil || !prefix.Contains(gateway)) {
		p.Addf(path+".gateway", "%q is not an address within %s", a.Gateway, a.Address)
	}
	for i, server := range a.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			p.Addf(fmt.Sprintf("%s.dns[%d]", path, i), "%q is not an IP address", server)
		}
	}
}

func atLeast(p *Problems, path string, got, least Bytes) {
	if got < least {
		p.Addf(path, "is %s; give at least %s", got, least)
	}
}

func checkLabels(p *Problems, path string, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		if !labelPattern.MatchString(key) {
			p.Addf(path, "%q is not a label's key; use at most 63 letters, digits and - _ . /", key)
		}
		if value := labels[key]; len(value) > MaxNameLength || strings.ContainsAny(value, "\n\r\x00") {
			p.Addf(path, "the value of %q is longer than %d characters or has a line break", key, MaxNameLength)
		}
	}
}
