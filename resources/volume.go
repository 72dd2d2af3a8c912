package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Volume is storage that outlives replicas.
type Volume struct {
	// Name of the volume, by which services mount it.
	Name string `json:"name" iac:"replace"`
	// Where the data is: `local` is one node's disk, `nfs` a server that every node mounts, and any other name is that of a volume plugin of Podman, which the nodes have.
	Driver string `json:"driver,omitempty" iac:"default=local,replace"`
	// Directory of an NFS server, for the driver `nfs`.
	NFS *NFS `json:"nfs,omitempty" iac:"optional"`
	// Options of the volume plugin, for drivers other than `local` and `nfs`.
	Options map[string]string `json:"options,omitempty" iac:"optional,replace"`
	// Which nodes a local volume may be on, as `placement.constraints` of a service says. The first replica that mounts it chooses one of them, and the volume stays there.
	Constraints []string `json:"constraints,omitempty" iac:"optional"`
	// How much a local volume holds, such as `10GiB`. Its node's disk has that much for it from its first use on, and replicas can't write more. It grows in place, and can't shrink; without a size, the volume shares the disk of its node. Other drivers have sizes of their own, on the server or in `options`.
	Size Bytes `json:"size,omitempty" iac:"optional"`
	// How many replicas mount it at a time: `single-writer` is one, in the whole cluster, whatever fails; `multi-writer` any number, on a local volume's one node.
	Access string `json:"access,omitempty" iac:"default=single-writer"`
	// Labels of the volume, for people.
	Labels map[string]string `json:"labels,omitempty" iac:"optional"`
	// Keep the data of a local volume when the volume is destroyed. The node's data disk is kept with it, and an import brings the volume back.
	RetainOnDestroy bool `json:"retain_on_destroy" iac:"default=true"`
}

// NFS is a directory of an NFS server.
type NFS struct {
	// Name or address of the server, as the nodes know it.
	Server string `json:"server"`
	// Directory that the server exports, or one below it.
	Path string `json:"path"`
	// Mount options, such as `vers=4.1`, `nolock` or `soft`.
	Options []string `json:"options,omitempty" iac:"optional"`
}

// The drivers that are skerry's own. Any other one is a volume plugin of Podman.
const (
	DriverLocal = "local"
	DriverNFS   = "nfs"
)

// The values of Volume.Access.
const (
	SingleWriter = "single-writer"
	MultiWriter  = "multi-writer"
)

// Mount is a volume in the containers of a service.
type Mount struct {
	// Name of the volume.
	Volume string `json:"volume"`
	// Path in the container.
	Path string `json:"path"`
	// Mount it read-only.
	ReadOnly bool `json:"read_only,omitempty" iac:"default=false"`
	// Directory of the volume to mount instead of all of it. That of a local volume is made where it is not there.
	Subpath string `json:"subpath,omitempty" iac:"optional"`
	// Copy what the image has at the path into a volume that is empty.
	CopyUp bool `json:"copy_up" iac:"default=true"`
}

var (
	driverPattern      = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	mountOptionPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]+(=[A-Za-z0-9_./:-]+)?$`)
)

// MinVolumeSize is the least that a file system of its own is worth.
const MinVolumeSize = 16 * MiB

// SetDefaults fills what was left out.
func (v *Volume) SetDefaults() {
	setDefault(&v.Driver, DriverLocal)
	setDefault(&v.Access, SingleWriter)
}

// Local is true where the data is on one node.
func (v *Volume) Local() bool { return v.Driver == DriverLocal || v.Driver == "" }

// Single is true where one replica mounts it at a time.
func (v *Volume) Single() bool { return v.Access != MultiWriter }

// Validate returns every problem with what the user wrote.
func (v *Volume) Validate() Problems {
	var p Problems
	checkName(&p, "name", v.Name)
	checkPattern(&p, "driver", v.Driver, driverPattern, "local, nfs or the name of a volume plugin")
	oneOf(&p, "access", v.Access, SingleWriter, MultiWriter)
	switch {
	case v.Driver == DriverNFS && v.NFS == nil:
		p.Addf("nfs", "is missing; the driver nfs needs nfs.server and nfs.path")
	case v.Driver != DriverNFS && v.NFS != nil:
		p.Addf("nfs", "is for the driver nfs, and the driver is %s; leave it out, or change the driver", v.Driver)
	case v.NFS != nil:
		v.NFS.validate(&p)
	}
	if len(v.Options) > 0 && (v.Driver == DriverNFS || v.Local()) {
		p.Addf("options", "are for volume plugins, and the driver is %s; leave them out%s", v.Driver, map[bool]string{true: ", or use nfs.options"}[v.Driver == DriverNFS])
	}
	switch {
	case v.Size == 0:
	case v.Driver == DriverNFS:
		p.Addf("size", "can't be enforced on an NFS server; leave it out, and set a quota there")
	case !v.Local():
		p.Addf("size", "is for the driver local, and the driver is %s; leave it out, or give the plugin's own option in options", v.Driver)
	default:
		atLeast(&p, "size", v.Size, MinVolumeSize)
	}
	if len(v.Constraints) > 0 && !v.Local() {
		p.Addf("constraints", "are for the driver local, whose data is on one node; constrain the services that mount the volume")
	}
	for i, text := range v.Constraints {
		if _, err := ParseCondition(text); err != nil {
			p.Addf(fmt.Sprintf("constraints[%d]", i), "%v", err)
		}
	}
	return p
}

func (n *NFS) validate(p *Problems) {
	if !isHost(n.Server) {
		p.Addf("nfs.server", "%q is not a host name or an IP address", n.Server)
	}
	if !path.IsAbs(n.Path) || strings.ContainsAny(n.Path, ", \t\n") {
		p.Addf("nfs.path", "%q is not an absolute path without spaces and commas", n.Path)
	}
	for i, option := range n.Options {
		checkPattern(p, fmt.Sprintf("nfs.options[%d]", i), option, mountOptionPattern, "a mount option, like vers=4.1")
	}
}

// validateMounts finds what is wrong with the mounts of volumes. Which volumes
// there are, the control plane knows.
func (t *Template) validateMounts(p *Problems) {
	for i, m := range t.Mounts {
		at := fmt.Sprintf("mounts[%d]", i)
		checkName(p, at+".volume", m.Volume)
		if !path.IsAbs(m.Path) || path.Clean(m.Path) == "/" {
			p.Addf(at+".path", "%q is not an absolute path below /", m.Path)
		}
		if first := slices.IndexFunc(t.Mounts, func(other Mount) bool { return path.Clean(other.Path) == path.Clean(m.Path) }); first < i {
			p.Addf(at+".path", "is %s, which mounts[%d] is already; mount each volume at a path of its own", m.Path, first)
		}
		if m.Subpath != "" && (path.IsAbs(m.Subpath) || path.Clean(m.Subpath) != m.Subpath || m.Subpath == "." || strings.HasPrefix(m.Subpath, "..")) {
			p.Addf(at+".subpath", "%q is not a path below the volume, like data/db", m.Subpath)
		}
	}
}

// VolumeNames are the volumes that replicas of the template mount, sorted, each
// once.
func (t *Template) VolumeNames() []string {
	var names []string
	for _, m := range t.Mounts {
		names = append(names, m.Volume)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// VolumeRecord is a volume as the control plane stores it.
type VolumeRecord struct {
	Volume Volume `json:"volume"`
	// Node that a local volume is on; empty before its first use.
	Node NodeID `json:"node,omitempty"`
	// Deleting is true from the removal until its node says that it is gone.
	Deleting bool `json:"deleting,omitempty"`
}

// VolumeStatus is a volume for people and plugins.
type VolumeStatus struct {
	Volume Volume `json:"volume"`
	Node   NodeID `json:"node,omitempty"`
	// NodeName is that of Node.
	NodeName string `json:"node_name,omitempty"`
	// Services that mount it, sorted.
	Services []string `json:"services,omitempty"`
	// Replicas that mount it now, sorted.
	Replicas []ReplicaID `json:"replicas,omitempty"`
	Deleting bool        `json:"deleting,omitempty"`
}

// AssignedVolume is a volume that a node has something to do with: its own local
// ones, and those that its replicas mount.
type AssignedVolume struct {
	Volume Volume `json:"volume"`
	// Remove is true where its data is to be removed: only of a local volume.
	Remove bool `json:"remove,omitempty"`
}

// RuntimeVolume is a volume as the runtime of a node makes it.
type RuntimeVolume struct {
	// Name is that of the volume, and of the subpath where it is only that; see
	// Mount.RuntimeName.
	Name    string
	Driver  string
	Options map[string]string
}

// RuntimeName is what the volume of the mount is called on a node: a subpath is a
// volume of its own there.
func (m Mount) RuntimeName() string {
	if m.Subpath == "" {
		return m.Volume
	}
	sum := sha256.Sum256([]byte(m.Subpath))
	return m.Volume + "." + hex.EncodeToString(sum[:4])
}
