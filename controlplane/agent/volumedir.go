package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/imagefs"
	"github.com/skerry-io/skerry/resources"
)

// volumesIn gives the volumes whose data is below a directory, by name. Those in
// which nothing was ever written don't count.
func volumesIn(dir string) ([]resources.Volume, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the volumes: %w", err)
	}
	var all []resources.Volume
	for _, entry := range entries {
		var v resources.Volume
		if err := readFile(filepath.Join(dir, entry.Name(), volumeFile), &v); err != nil {
			continue // it is being made, or not skerry's
		}
		place := filepath.Join(dir, entry.Name())
		if _, err := os.Stat(dataIn(place, v)); v.Size > 0 && errors.Is(err, fs.ErrNotExist) {
			_, err := os.Stat(filepath.Join(place, volumeDisk)) // not mounted: nobody knows what is in there
			if err == nil {
				all = append(all, v)
			}
		} else if wasUsed(dataIn(place, v)) {
			all = append(all, v)
		}
	}
	return all, nil
}

// dataIn gives where in its directory the data of a local volume is: one with a
// size has a file system of its own.
func dataIn(dir string, v resources.Volume) string {
	if v.Size > 0 {
		return filepath.Join(dir, volumeMount, volumeData)
	}
	return filepath.Join(dir, volumeData)
}

// wasUsed is true where a directory has anything in it.
func wasUsed(dir string) bool {
	opened, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer opened.Close() //nolint:errcheck // it was read
	names, _ := opened.Readdirnames(1)
	return len(names) > 0
}

func sameVolume(a, b resources.Volume) bool { return reflect.DeepEqual(a, b) }

// subpaths are where parts of a volume are mounted, so that a replica can mount
// them.
const subpaths = "subpaths"

// mountSubpath mounts a directory of the volume's data, which it makes where it is
// not there, and gives the place. A replica may have put a link in its way, to
// anywhere on the node: none is followed, neither now nor by the runtime later,
// which mounts what was found here.
func mountSubpath(dir, data, subpath string) (string, error) {
	root, err := os.OpenRoot(data)
	if err != nil {
		return "", err
	}
	defer root.Close() //nolint:errcheck // it was read
	if err := root.MkdirAll(subpath, 0o755); err != nil {
		return "", fmt.Errorf("make subpath %s: %w", subpath, err)
	}
	opened, err := root.Open(subpath)
	if err != nil {
		return "", fmt.Errorf("open subpath %s: %w", subpath, err)
	}
	defer opened.Close() //nolint:errcheck // it was read
	place := filepath.Join(dir, subpaths, (resources.Mount{Volume: filepath.Base(dir), Subpath: subpath}).RuntimeName())
	if err := os.MkdirAll(place, 0o700); err != nil {
		return "", err
	}
	here, err := opened.Stat()
	if err != nil {
		return "", err
	}
	if there, err := os.Stat(place); err == nil && os.SameFile(here, there) {
		return place, nil
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", opened.Fd()), place, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("mount subpath %s: %w", subpath, err)
	}
	return place, nil
}

// removeData removes a volume's directory, unless anything is mounted below it:
// what is in there would go as well.
func removeData(dir string) error {
	err := unmountSubpaths(dir)
	for _, place := range []string{volumeMount, restored} {
		if err == nil {
			err = imagefs.Unmount(filepath.Join(dir, place))
		}
	}
	if err != nil {
		return err
	}
	mounted, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounted), " "+dir+"/") {
		return fmt.Errorf("remove %s: something is mounted there", dir)
	}
	return os.RemoveAll(dir)
}

// unmountSubpaths undoes what mountSubpath has mounted for a volume.
func unmountSubpaths(dir string) error {
	places, err := filepath.Glob(filepath.Join(dir, subpaths, "*"))
	if err != nil {
		return err
	}
	for _, place := range places {
		if err := unix.Unmount(place, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", place, err)
		}
	}
	return nil
}
