package podmanruntime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/containers/podman/v4/pkg/bindings/volumes"
	"github.com/containers/podman/v4/pkg/domain/entities"
	"github.com/containers/podman/v4/pkg/specgen"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// LabelVolume marks the volumes of skerry, with the volume's name; labelMadeFrom
// tells one from another of the same name.
const (
	LabelVolume   = "io.skerry.volume"
	labelMadeFrom = "io.skerry.made-from"
)

// volumeName is the name of a volume of skerry's in Podman.
func volumeName(name string) string { return "skerry-" + name }

// PutVolume makes a volume, or leaves the one that is the same. One of the name
// that is another is made anew, which fails while a container has it.
func (r *Runtime) PutVolume(ctx context.Context, v resources.RuntimeVolume) error {
	ctx, err := r.connect(ctx)
	if err != nil {
		return err
	}
	from, err := madeFrom(v)
	if err != nil {
		return err
	}
	there, err := volumes.Inspect(ctx, volumeName(v.Name), nil)
	switch {
	case isNotFound(err):
	case err != nil:
		return fmt.Errorf("look for volume %s: %w", v.Name, err)
	case there.Labels[LabelVolume] == "":
		return fmt.Errorf("make volume %s: Podman has a volume %s that is not skerry's: remove or rename it", v.Name, volumeName(v.Name))
	case there.Labels[labelMadeFrom] == from:
		return nil
	case there.Driver != resources.DriverLocal:
		return fmt.Errorf("make volume %s: the node has it from volume plugin %s, with other options: give the volume another name, or remove it there, with its data: podman volume rm %s", v.Name, there.Driver, volumeName(v.Name))
	default:
		if err := removeVolume(ctx, v.Name); err != nil {
			return err
		}
	}
	_, err = volumes.Create(ctx, entities.VolumeCreateOptions{
		Name: volumeName(v.Name), Driver: v.Driver, Options: v.Options, Label: map[string]string{LabelVolume: v.Name, labelMadeFrom: from},
	}, nil)
	if err != nil {
		return fmt.Errorf("make volume %s: %w", v.Name, err)
	}
	return nil
}

// madeFrom is the same for volumes that are.
func madeFrom(v resources.RuntimeVolume) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// RemoveVolume removes a volume that no container has; an absent one is no error.
// What a bind of it leads to stays as it is, and so does the volume of a plugin.
func (r *Runtime) RemoveVolume(ctx context.Context, name string) error {
	ctx, err := r.connect(ctx)
	if err != nil {
		return err
	}
	return removeVolume(ctx, name)
}

func removeVolume(ctx context.Context, name string) error {
	there, err := volumes.Inspect(ctx, volumeName(name), nil)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for volume %s: %w", name, err)
	}
	if there.Driver != resources.DriverLocal {
		// The plugin would remove the data, which others may have.
		return nil
	}
	// Podman removes all that is in the volume's directory, and counts itself
	// whether anything is mounted there. It has lost count where it was killed.
	if err := unmount(there.Mountpoint); err != nil {
		return fmt.Errorf("remove volume %s: unmount it: %w", name, err)
	}
	if err := volumes.Remove(ctx, volumeName(name), nil); err != nil && !isNotFound(err) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// unmount takes away what is mounted at a directory, unless somebody uses it.
func unmount(dir string) error {
	for dir != "" {
		mounted, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		if !strings.Contains(string(mounted), " "+dir+" ") {
			return nil
		}
		if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

// transferName is the name of the container that has a volume mounted and never
// runs.
func transferName(name string) string { return "skerry-transfer-" + name }

// MountVolume mounts a volume, and gives the directory where it is until release is
// called. Podman mounts volumes for containers only: one of the replica's image is
// prepared to run, and does not. What an earlier one has left is removed.
func (r *Runtime) MountVolume(ctx context.Context, v resources.RuntimeVolume, replica resources.Replica) (dir string, release func(context.Context) error, err error) {
	if err := r.PutVolume(ctx, v); err != nil {
		return "", nil, err
	}
	ctx, err = r.connect(ctx)
	if err != nil {
		return "", nil, err
	}
	name := transferName(v.Name)
	if err := remove(ctx, name); err != nil {
		return "", nil, err
	}
	release = func(ctx context.Context) error {
		ctx, err := r.connect(ctx)
		if err != nil {
			return err
		}
		return remove(ctx, name)
	}
	if dir, err = mountFor(ctx, name, v.Name, replica); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mount volume %s: %w", v.Name, err), release(context.WithoutCancel(ctx)))
	}
	return dir, release, nil
}

func mountFor(ctx context.Context, container, volume string, replica resources.Replica) (string, error) {
	t := replica.Template
	s := specgen.NewSpecGenerator(imageReference(t.Image, replica.ImageDigest), false)
	s.Name = container
	// The program has to be there, though it is never run.
	s.Entrypoint, s.Command, s.WorkDir = t.Entrypoint, t.Command, t.WorkingDir
	s.Labels = map[string]string{LabelVolume: volume}
	s.NetNS = specgen.Namespace{NSMode: specgen.NoNetwork}
	s.LogConfiguration = &specgen.LogConfig{Driver: "none"}
	s.Volumes = []*specgen.NamedVolume{{Name: volumeName(volume), Dest: "/skerry-volume", Options: []string{"nocopy"}}}
	if _, err := containers.CreateWithSpec(ctx, s, nil); err != nil {
		return "", err
	}
	if err := containers.ContainerInit(ctx, container, nil); err != nil {
		return "", err
	}
	there, err := volumes.Inspect(ctx, volumeName(volume), nil)
	if err != nil {
		return "", err
	}
	return there.Mountpoint, nil
}

// ListVolumes gives the names of skerry's volumes.
func (r *Runtime) ListVolumes(ctx context.Context) ([]string, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	all, err := volumes.List(ctx, new(volumes.ListOptions).WithFilters(map[string][]string{"label": {LabelVolume}}))
	if err != nil {
		return nil, fmt.Errorf("list the volumes: %w", err)
	}
	var names []string
	for _, v := range all {
		names = append(names, v.Labels[LabelVolume])
	}
	return names, nil
}
