package podmanruntime

import (
	"fmt"
	"maps"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	nettypes "github.com/containers/common/libnetwork/types"
	"github.com/containers/podman/v4/pkg/signal"
	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/distribution/reference"
	oci "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skerry-io/skerry/resources"
)

// The labels by which skerry knows its containers. LabelReplica marks them.
const (
	LabelReplica  = "io.skerry.replica"
	LabelService  = "io.skerry.service"
	LabelRevision = "io.skerry.revision"
	// labelLogKept is how many bytes of a log outlive a start; see log.go.
	labelLogKept = "io.skerry.log-kept"
	// labelAddress is the replica's first address on the cluster's networks, of
	// which Podman knows nothing.
	labelAddress = "io.skerry.address"
)

// cpuPeriod is the kernel's default scheduling period, 100 ms, and minCPUQuota
// the least share of it that the kernel accepts, 1 ms; both in microseconds
// (Documentation/scheduler/sched-bwc.rst).
const (
	cpuPeriod   = 100_000
	minCPUQuota = 1_000
)

// maxHostname is what sethostname(2) takes, less one for programs that count
// the final zero.
const maxHostname = 63

// containerName is the name of the replica's container.
func containerName(id resources.ReplicaID) string { return "skerry-" + string(id) }

// spec says in Podman's words what the replica runs. It fails only on what the
// validation of a service would have refused.
// Network namespaces of replicas are in a directory; see Runtime.Namespaces.
func spec(r resources.Replica, namespaces string) (*specgen.SpecGenerator, error) {
	t := r.Template
	s := specgen.NewSpecGenerator(imageReference(t.Image, r.ImageDigest), false)
	s.RawImageName = t.Image
	s.Name = containerName(r.ID)
	s.Labels = labels(r)

	s.Entrypoint = t.Entrypoint
	s.Command = slices.Concat(t.Command, t.Args)
	s.Env = t.Env
	s.WorkDir = t.WorkingDir
	s.User = t.User
	s.Hostname = t.Hostname
	if s.Hostname == "" {
		s.Hostname = hostname(r)
	}

	s.ResourceLimits = limits(t.Resources)
	s.Rlimits = ulimits(t.Ulimits)
	s.Sysctl = t.Sysctls

	s.CapAdd, s.CapDrop, s.Privileged = t.CapAdd, t.CapDrop, t.Privileged
	for _, device := range t.Devices {
		// The service splits host path, container path and permissions.
		s.Devices = append(s.Devices, oci.LinuxDevice{Path: device})
	}

	// As with `podman run --read-only`, /tmp, /var/tmp and /run stay writable,
	// in memory; without that, newer Podman makes even /dev/shm read-only.
	s.ReadOnlyFilesystem, s.ReadWriteTmpfs = t.ReadOnly, t.ReadOnly
	s.Mounts = mounts(t)
	s.Volumes = volumesOf(t)

	join(s, r, namespaces)

	// The agent restarts containers, with backoff; Podman never does.
	s.RestartPolicy = "no"
	// Podman 4.3 and 5.4 both read back logs of this driver, with or without
	// systemd's journal. See log.go for the size.
	most, kept := t.LogBound()
	s.LogConfiguration = &specgen.LogConfig{Driver: "k8s-file", Size: int64(most - kept)}

	grace := graceSeconds(t.StopGrace)
	s.StopTimeout = &grace
	stop, err := stopSignal(t.StopSignal)
	if err != nil {
		return nil, err
	}
	s.StopSignal = &stop
	return s, nil
}

// join puts the container on the cluster's networks, by the namespace that was
// made for it; or, where the replica is on none, on Podman's own, which then
// publishes the ports.
func join(s *specgen.SpecGenerator, r resources.Replica, namespaces string) {
	if len(r.Addresses) > 0 {
		s.NetNS = specgen.Namespace{NSMode: specgen.Path, Value: filepath.Join(namespaces, string(r.ID))}
		s.DNSServers = []net.IP{resources.NodeResolver.AsSlice()}
		// The node's own search domains are none of the container's business.
		s.DNSSearch = []string{"."}
		// Programs look for their own name, which is nobody else's.
		s.HostAdd = []string{s.Hostname + ":" + r.Addresses[0].Address.String()}
		return
	}
	s.NetNS = specgen.Namespace{NSMode: specgen.Bridge}
	for _, port := range r.Template.Ports {
		s.PortMappings = append(s.PortMappings, nettypes.PortMapping{
			ContainerPort: uint16(port.Target), HostPort: uint16(port.Node()), Protocol: port.Protocol,
		})
	}
}

// imageReference pins the image to the digest, where there is one. The tag
// goes: Podman refuses a reference with both.
func imageReference(image, digest string) string {
	if digest == "" {
		return image
	}
	name, _, _ := strings.Cut(image, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	// A short name was resolved at docker.io, so it is that image; Podman would
	// look for it elsewhere.
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		name = named.Name()
	}
	return name + "@" + digest
}

func labels(r resources.Replica) map[string]string {
	all := map[string]string{}
	maps.Copy(all, r.Template.Labels)
	all[LabelReplica] = string(r.ID)
	all[LabelService] = r.Service
	all[LabelRevision] = fmt.Sprint(r.Revision)
	if len(r.Addresses) > 0 {
		all[labelAddress] = r.Addresses[0].Address.String()
	}
	_, kept := r.Template.LogBound()
	all[labelLogKept] = strconv.FormatInt(int64(kept), 10)
	return all
}

// hostname is the replica's ID. Of one that is too long the service's name is
// cut, since the rest tells replicas apart.
func hostname(r resources.Replica) string {
	id := string(r.ID)
	excess := len(id) - maxHostname
	if excess <= 0 {
		return id
	}
	if rest, found := strings.CutPrefix(id, r.Service); found && excess < len(r.Service) {
		return strings.TrimRight(r.Service[:len(r.Service)-excess], "-") + rest
	}
	return strings.TrimLeft(id[excess:], "-")
}

func limits(r resources.Reservation) *oci.LinuxResources {
	all := &oci.LinuxResources{}
	if r.CPU > 0 {
		period := uint64(cpuPeriod)
		quota := max(int64(r.CPU)*cpuPeriod/1000, minCPUQuota)
		all.CPU = &oci.LinuxCPU{Period: &period, Quota: &quota}
	}
	if r.Memory > 0 {
		// The limit counts memory and swap together: a replica never swaps.
		memory, swap := int64(r.Memory), int64(r.Memory)
		all.Memory = &oci.LinuxMemory{Limit: &memory, Swap: &swap}
	}
	return all
}

func ulimits(byName map[string]resources.Ulimit) []oci.POSIXRlimit {
	var all []oci.POSIXRlimit
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		limit := byName[name]
		all = append(all, oci.POSIXRlimit{
			// Podman wants bare lower-case names.
			Type: strings.TrimPrefix(strings.ToLower(name), "rlimit_"),
			Soft: unlimited(limit.Soft), Hard: unlimited(limit.Hard),
		})
	}
	return all
}

// unlimited turns -1 into the kernel's RLIM_INFINITY.
func unlimited(limit int64) uint64 {
	if limit < 0 {
		return math.MaxUint64
	}
	return uint64(limit)
}

func mounts(t resources.Template) []oci.Mount {
	var all []oci.Mount
	for _, m := range t.Tmpfs {
		options := []string{"rw", "rprivate", "nosuid", "nodev", "tmpcopyup"}
		if m.Size > 0 {
			options = append(options, fmt.Sprintf("size=%d", int64(m.Size)))
		}
		all = append(all, oci.Mount{Destination: m.Path, Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	for _, m := range t.HostMounts {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		all = append(all, oci.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: []string{"rbind", "rprivate", mode}})
	}
	return all
}

// volumesOf gives the volumes that the container mounts. Podman copies what the
// image has at the path into one that is empty, unless it is told not to.
func volumesOf(t resources.Template) []*specgen.NamedVolume {
	var all []*specgen.NamedVolume
	for _, m := range t.Mounts {
		options := []string{"rw"}
		if m.ReadOnly {
			options = []string{"ro"}
		}
		if !m.CopyUp {
			options = append(options, "nocopy")
		}
		all = append(all, &specgen.NamedVolume{Name: volumeName(m.RuntimeName()), Dest: m.Path, Options: options})
	}
	return all
}

// graceSeconds rounds up: Podman counts whole seconds, and takes 0 for a kill
// without asking.
func graceSeconds(d resources.Duration) uint {
	if d <= 0 {
		d = resources.DefaultStopGrace
	}
	return uint(math.Ceil(time.Duration(d).Seconds()))
}

func stopSignal(name string) (syscall.Signal, error) {
	if name == "" {
		return syscall.SIGTERM, nil
	}
	number, err := signal.ParseSignalNameOrNumber(name)
	if err != nil {
		return 0, fmt.Errorf("read stop_signal %q: %w; use a name like SIGTERM", name, err)
	}
	return number, nil
}
