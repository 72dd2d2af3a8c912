package links

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

func (l *Links) path(id resources.ReplicaID) string { return filepath.Join(l.Dir, string(id)) }

// ensureNamespace makes the network namespace of a file, unless it is there. A
// file without one, which a reboot leaves, is filled.
func ensureNamespace(path string) error {
	is, err := isNamespace(path)
	if is || err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	file.Close() //nolint:errcheck // it is empty
	made := make(chan error, 1)
	go func() {
		// The thread is in the new namespace from here on, and ends with this goroutine.
		runtime.LockOSThread()
		made <- makeNamespace(path)
	}()
	if err := <-made; err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	return nil
}

// makeNamespace makes a namespace for the calling thread, and keeps it at a path.
func makeNamespace(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount on %s: %w", path, err)
	}
	// A network is nobody's to configure but skerry's.
	return errors.Join(
		setSysctl("net/ipv6/conf/default/accept_ra", "0"),
		setSysctl("net/ipv6/conf/all/accept_ra", "0"),
	)
}

func isNamespace(path string) (bool, error) {
	var s unix.Statfs_t
	switch err := unix.Statfs(path, &s); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at network namespace %s: %w", path, err)
	}
	return s.Type == unix.NSFS_MAGIC, nil
}

// removeNamespace gives up the namespace of a file. It lives on as long as a
// process is in it.
func removeNamespace(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

// within calls f with a way to speak to the kernel about a namespace.
func within(path string, f func(namespace int, h *netlink.Handle) error) error {
	namespace, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer namespace.Close() //nolint:errcheck // it was only looked at
	h, err := netlink.NewHandleAt(namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer h.Close()
	return f(int(namespace), h)
}
