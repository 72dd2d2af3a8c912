package podmanruntime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containers/podman/v4/pkg/bindings/volumes"
	"github.com/containers/podman/v4/pkg/domain/entities"
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
// What a bind of it leads to stays as it is.
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
