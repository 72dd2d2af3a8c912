package agent

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
)

// What a node keeps for its system, its agent and its control plane.
const (
	systemCPU    = resources.MilliCPU(100)
	systemMemory = 256 * resources.MiB
)

// Info describes the node.
func (a *Agent) Info() (resources.NodeInfo, error) {
	a.mu.Lock()
	node, cluster, podman := a.node, a.cluster, a.podman
	var conditions []resources.NodeCondition
	for _, t := range slices.Sorted(maps.Keys(a.conditions)) {
		conditions = append(conditions, a.conditions[t])
	}
	a.mu.Unlock()
	machine, err := a.Machine()
	if err != nil {
		return resources.NodeInfo{}, err
	}
	capacity := machine.Capacity
	info := resources.NodeInfo{
		ID: node.ID, Name: node.Name, Labels: node.Labels, Taints: node.Taints, AuthorizedKeys: node.AuthorizedKeys,
		Version: a.Version, Podman: podman, Addresses: machine.Addresses, Capacity: capacity,
		Allocatable: resources.Capacity{
			CPU:    max(capacity.CPU-systemCPU, 0),
			Memory: max(capacity.Memory-systemMemory, 0), Disk: capacity.Disk,
		},
		Cluster: cluster.ID, Server: cluster.Server != nil, Alone: a.Alone,
		Conditions: conditions,
	}
	if c, err := Credentials(a.Data); err == nil {
		if info.CertificateEnds, err = pki.EndOf(c.Certificate); err != nil {
			return info, err
		}
	}
	if a.Network != nil {
		overlay := a.Network.Overlay()
		info.Overlay = &overlay
	}
	info.Volumes, err = volumesIn(a.path(volumesDir))
	if err != nil {
		return info, err
	}
	for _, v := range info.Volumes {
		if v.RetainOnDestroy {
			info.Retained = append(info.Retained, "volume "+v.Name)
		}
	}
	if info.Server {
		info.Retained = append(info.Retained, "the store of cluster "+cluster.Name)
	}
	return info, nil
}

// Machine is what a machine has.
type Machine struct {
	Capacity resources.Capacity
	// Addresses are those by which others reach it.
	Addresses []string
}

// MachineOf describes this machine, whose data is in a directory.
func MachineOf(data string) (Machine, error) {
	memory, err := totalMemory()
	if err != nil {
		return Machine{}, err
	}
	disk, err := diskOf(data)
	if err != nil {
		return Machine{}, err
	}
	capacity := resources.Capacity{CPU: resources.MilliCPU(1000 * runtime.NumCPU()), Memory: memory, Disk: disk.size}
	return Machine{Capacity: capacity, Addresses: Addresses()}, nil
}

func totalMemory() (resources.Bytes, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the size of the memory: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was read
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var kib int64
		if _, err := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kib); err == nil {
			return resources.Bytes(kib) * resources.KiB, nil
		}
	}
	return 0, fmt.Errorf("read the size of the memory: /proc/meminfo has no MemTotal")
}

// ownInterfaces begin the names of the interfaces that containers use.
var ownInterfaces = []string{"podman", "veth", "skerry", "skr-", "cni", "docker"}

// Addresses lists the IPv4 addresses by which others reach the machine, in the
// order of its network cards.
func Addresses() []string {
	all := []string{}
	interfaces, err := net.Interfaces()
	if err != nil {
		return all
	}
	for _, card := range interfaces {
		own := slices.ContainsFunc(ownInterfaces, func(prefix string) bool { return strings.HasPrefix(card.Name, prefix) })
		if own || card.Flags&net.FlagLoopback != 0 || card.Flags&net.FlagUp == 0 {
			continue
		}
		found, err := card.Addrs()
		if err != nil {
			continue
		}
		for _, address := range found {
			if prefix, err := netip.ParsePrefix(address.String()); err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
				all = append(all, prefix.Addr().String())
			}
		}
	}
	return all
}

// change is told when the node's identity or its cluster has changed.
func (a *Agent) change() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.joined
}

// set changes the node or its cluster, under the lock, and tells the session.
func (a *Agent) set(how func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	how()
	close(a.joined)
	a.joined = make(chan struct{})
}
