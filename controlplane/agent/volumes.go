package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/imagefs"
	"github.com/skerry-io/skerry/resources"
)

// Volumes is what a runtime does with volumes.
type Volumes interface {
	// PutVolume makes a volume. One of the name that is another is made anew, which
	// is an error while a container has it.
	PutVolume(ctx context.Context, v resources.RuntimeVolume) error
	// RemoveVolume removes a volume that no container has, and nothing of what a
	// bind of it leads to. An absent one is no error.
	RemoveVolume(ctx context.Context, name string) error
	// ListVolumes gives the names of all volumes that skerry made.
	ListVolumes(ctx context.Context) ([]string, error)
	// MountVolume gives the directory of the node that a volume is mounted at until
	// release is called. The replica is one that mounts it, and need not run.
	MountVolume(ctx context.Context, v resources.RuntimeVolume, r resources.Replica) (dir string, release func(context.Context) error, err error)
}

// A local volume is a directory below the node's data, with its data and a file
// that says what it is: that is all that is left where the VM was replaced, or
// the volume destroyed and its data kept. Where it has a size, the data is on a
// disk of that size, in a file, and mounted beside it.
const (
	volumeData  = "data"
	volumeFile  = "volume.json"
	volumeDisk  = "disk.ext4"
	volumeMount = "disk"
)

// volumes makes the volumes of a node's replicas, and removes what nobody needs.
type volumes struct {
	runtime Volumes
	dir     string
	log     *slog.Logger
	wake    chan struct{} // holds a value when there may be something to remove

	making sync.Mutex // held while volumes are made or removed

	mu       sync.Mutex // guards all below
	assigned map[string]resources.AssignedVolume
	// told is true once a server has said what the node's volumes are: nothing is
	// removed before.
	told bool
	// mounted are the volumes of all replicas that are on the node, each with one of
	// these, and inUse those whose containers run, may run, or are about to.
	mounted map[string]resources.Replica
	inUse   map[string]bool
	// held are the volumes that no container may use now, and why.
	held map[string]string
}

func newVolumes(runtime Volumes, dir string, log *slog.Logger) *volumes {
	return &volumes{runtime: runtime, dir: dir, log: log, wake: make(chan struct{}, 1), assigned: map[string]resources.AssignedVolume{}, held: map[string]string{}}
}

// follow takes what the node's volumes are.
func (v *volumes) follow(said resources.Assignment) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.assigned)
	for _, a := range said.Volumes {
		v.assigned[a.Volume.Name] = a
	}
	v.told = v.told || !said.Remembered
	v.look()
}

// look makes run look for what there is to remove.
func (v *volumes) look() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// use takes which replicas are on the node, and whose containers may run.
func (v *volumes) use(units map[resources.ReplicaID]*unit, runs func(*unit) bool) {
	if v == nil {
		return
	}
	mounted, inUse := map[string]resources.Replica{}, map[string]bool{}
	for _, u := range units {
		for _, name := range u.replica.Template.VolumeNames() {
			mounted[name] = u.replica
			inUse[name] = inUse[name] || runs(u)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	same := maps.EqualFunc(mounted, v.mounted, func(_, _ resources.Replica) bool { return true })
	v.mounted, v.inUse = mounted, inUse
	if !same {
		v.look()
	}
}

// used is true while a container may use the volume.
func (v *volumes) used(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.inUse[name]
}

// hold keeps containers from the volume, or lets them again where why is empty. It
// is an error where somebody else holds it.
func (v *volumes) hold(name, why string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if other := v.held[name]; other != "" && why != "" {
		return api.Errorf(http.StatusConflict, "volume %s %s; try again once that is done", name, other)
	}
	v.held[name] = why
	return nil
}

// hindrance says which volume a replica may not use now; empty where it may.
func (v *volumes) hindrance(r resources.Replica) string {
	if v == nil || len(r.Template.Mounts) == 0 {
		return ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, name := range r.Template.VolumeNames() {
		if why := v.held[name]; why != "" {
			return "volume " + name + " " + why
		}
	}
	return ""
}

// shared names a volume of the replica that has a single writer and that other
// nodes can mount; empty where it has none.
func (v *volumes) shared(r resources.Replica) string {
	if v == nil || len(r.Template.Mounts) == 0 {
		return ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, name := range r.Template.VolumeNames() {
		if volume := v.assigned[name].Volume; volume.Single() && !volume.Local() {
			return name
		}
	}
	return ""
}

// unconfirmed says what a replica waits for that may have been given to another
// node while this one was down.
func (u *unit) unconfirmed(volume string) {
	if volume == "" {
		return
	}
	u.status.State = resources.ReplicaPending
	u.status.Reason = resources.ReasonNotReady
	u.status.Message = fmt.Sprintf("volume %s has a single writer, which may be on another node by now: a server has to say that it is this replica still", volume)
}

// prepare makes the volumes that the replica mounts.
func (v *volumes) prepare(ctx context.Context, r resources.Replica) error {
	if len(r.Template.Mounts) == 0 {
		return nil
	}
	if v == nil {
		return errors.New("mount volumes: this node has none")
	}
	v.making.Lock()
	defer v.making.Unlock()
	for _, m := range r.Template.Mounts {
		v.mu.Lock()
		a, found := v.assigned[m.Volume]
		v.mu.Unlock()
		if !found || a.Remove {
			return fmt.Errorf("mount volume %s: the control plane has not said that it is this node's", m.Volume)
		}
		if err := v.make(ctx, a.Volume, m); err != nil {
			return fmt.Errorf("mount volume %s: %w", m.Volume, err)
		}
	}
	return nil
}

func (v *volumes) make(ctx context.Context, volume resources.Volume, m resources.Mount) error {
	made, err := v.runtimeVolume(ctx, volume, m)
	if err != nil {
		return err
	}
	return v.runtime.PutVolume(ctx, made)
}

// runtimeVolume says what a mount is to the runtime. What a local volume needs is
// made.
func (v *volumes) runtimeVolume(ctx context.Context, volume resources.Volume, m resources.Mount) (resources.RuntimeVolume, error) {
	made := resources.RuntimeVolume{Name: m.RuntimeName(), Driver: volume.Driver, Options: volume.Options}
	switch {
	case volume.Local():
		device, err := v.directory(volume, m.Subpath)
		if err != nil {
			return made, err
		}
		made.Driver, made.Options = resources.DriverLocal, map[string]string{"type": "none", "o": "bind", "device": device}
	case volume.Driver == resources.DriverNFS:
		options, err := nfsOptions(ctx, *volume.NFS, m.Subpath)
		if err != nil {
			return made, err
		}
		made.Driver, made.Options = resources.DriverLocal, options
	}
	return made, nil
}

// directory makes the directory of a local volume, and gives what of it is
// mounted.
func (v *volumes) directory(volume resources.Volume, subpath string) (string, error) {
	dir := filepath.Join(v.dir, volume.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if volume.Size > 0 {
		err := v.mountDisk(volume)
		if small, is := errors.AsType[*imagefs.NotGrownError](err); is {
			// It is as good as it was, and grows later.
			v.log.Warn("a volume has not grown yet", "volume", volume.Name, "size", volume.Size, "err", small)
			v.look()
		} else if err != nil {
			return "", err
		}
	}
	data := dataIn(dir, volume)
	if err := os.MkdirAll(data, 0o755); err != nil {
		return "", err
	}
	var there resources.Volume
	file := filepath.Join(dir, volumeFile)
	if err := readFile(file, &there); err != nil || !sameVolume(there, volume) {
		if err := writeFile(file, volume); err != nil {
			return "", err
		}
	}
	if subpath == "" {
		return data, nil
	}
	return mountSubpath(dir, data, subpath)
}

// mountDisk mounts the disk of a volume that has a size, and lets it grow.
func (v *volumes) mountDisk(volume resources.Volume) error {
	dir := filepath.Join(v.dir, volume.Name)
	return imagefs.Mount(filepath.Join(dir, volumeDisk), filepath.Join(dir, volumeMount), volume.Size)
}

// nfsVersion is what a volume is mounted with where its user names none. Kernels since
// 6.6 read with READ_PLUS in version 4.2, and NFS-Ganesha 4 answers that with zeros.
const nfsVersion = "vers=4.1"

// nfsOptions are those of a mount without mount.nfs, which the kernel takes the
// server's address from.
func nfsOptions(ctx context.Context, nfs resources.NFS, subpath string) (map[string]string, error) {
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", nfs.Server)
	if err != nil {
		return nil, fmt.Errorf("find the NFS server: %w", err)
	}
	options := append([]string{"addr=" + addresses[0].Unmap().String()}, nfs.Options...)
	if !slices.ContainsFunc(nfs.Options, func(o string) bool { return strings.HasPrefix(o, "vers=") || strings.HasPrefix(o, "nfsvers=") }) {
		options = append(options, nfsVersion)
	}
	return map[string]string{"type": "nfs", "o": strings.Join(options, ","), "device": nfs.Server + ":" + filepath.Join(nfs.Path, subpath)}, nil
}

// tryAgain is when a removal that failed is tried again.
const tryAgain = 30 * time.Second

// run removes what nobody needs, until ctx ends. removed tells the control plane
// that nothing is left of a volume.
func (v *volumes) run(ctx context.Context, removed func(ctx context.Context, name string) error) {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		case <-again:
		}
		again = nil
		if err := v.tidy(ctx, removed); err != nil && ctx.Err() == nil {
			v.log.Warn("a volume is not yet as it should be", "err", err)
			again = time.After(tryAgain)
		}
	}
}

// tidy removes the volumes that no replica of the node mounts and that are not
// the node's, and the data of those that are to go.
func (v *volumes) tidy(ctx context.Context, removed func(ctx context.Context, name string) error) error {
	v.making.Lock()
	defer v.making.Unlock()
	v.mu.Lock()
	told, assigned, mounted := v.told, maps.Clone(v.assigned), v.mounted
	v.mu.Unlock()
	if !told {
		return nil
	}
	made, err := v.runtime.ListVolumes(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range made {
		volume, _, _ := strings.Cut(name, ".")
		_, mounts := mounted[volume]
		if a, found := assigned[volume]; !mounts && (!found || a.Remove) {
			failures = append(failures, v.runtime.RemoveVolume(ctx, name))
		}
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(assigned)) {
		_, mounts := mounted[name]
		switch a := assigned[name]; {
		case !a.Volume.Local():
		case a.Remove && !mounts:
			err := removeData(filepath.Join(v.dir, name))
			if err == nil {
				err = removed(ctx, name)
			}
			failures = append(failures, err)
		case !a.Remove && mounts && a.Volume.Size > 0:
			if _, err := os.Stat(filepath.Join(v.dir, name, volumeDisk)); err == nil {
				failures = append(failures, v.mountDisk(a.Volume))
			}
		}
	}
	return errors.Join(failures...)
}

func (a *Agent) volumeRemoved(ctx context.Context, name string) error {
	a.mu.Lock()
	id := a.node.ID
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	return a.Server.VolumeRemoved(ctx, id, name)
}
