package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/resources"
)

// Adopt makes this machine, which was there before skerry, a node, and starts
// its agent. The program is in its place already. id is for a machine that has
// none yet. It can be run again, wherever it was cut off.
func Adopt(ctx context.Context, id resources.NodeID, log *slog.Logger) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the name of this machine: %w", err)
	}
	// Who the node is comes first: it marks what follows as skerry's to remove.
	node, err := agent.InitNode(Data, resources.NodeFile{ID: id, Name: nodeName(host), Found: true})
	if err != nil {
		return err
	}
	log.Info("this machine becomes a node", "name", node.Name, "id", node.ID)
	if err := writeGuestFiles(); err != nil {
		return err
	}
	for unit, target := range map[string]string{filepath.Join(units, agentUnit): "multi-user.target", podmanUnit: "sockets.target"} {
		if _, err := enable(unit, target); err != nil {
			return fmt.Errorf("enable %s: %w", unit, err)
		}
	}
	if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	return run(ctx, "systemctl", "start", "podman.socket", agentUnit)
}

// notInNames is what the name of a node has none of, other than a host's.
var notInNames = regexp.MustCompile(`[^a-z0-9-]+`)

// nodeName makes the name of a node from that of its machine.
func nodeName(host string) string {
	name, _, _ := strings.Cut(strings.ToLower(host), ".")
	name = strings.Trim(notInNames.ReplaceAllString(name, "-"), "-")
	if name == "" {
		return "node"
	}
	return name[:min(len(name), resources.MaxNameLength)]
}

func writeGuestFiles() error {
	all, err := guestFiles()
	if err != nil {
		return err
	}
	for _, f := range all {
		if _, err := writeFile(f); err != nil {
			return fmt.Errorf("write %s: %w", f.path, err)
		}
	}
	return nil
}

// Abandon takes skerry off this machine: its units, its data, its program. What
// was there before it, and Podman's images, stay. It refuses where the node is
// in a cluster, and on a machine that skerry made. It can be run again.
func Abandon(ctx context.Context, log *slog.Logger) error {
	node, err := agent.Node(Data)
	if err != nil && !errors.Is(err, agent.ErrNoFile) {
		return err
	}
	if err == nil && !node.Found {
		return fmt.Errorf("take skerry off this machine: node %s was made by skerry; remove its skerry_node instead", node.Name)
	}
	cluster, found, err := agent.Cluster(Data)
	if err != nil {
		return err
	}
	if found {
		return fmt.Errorf("take skerry off this machine: node %s is in cluster %s still; remove it there first, or use --force where that is done", node.Name, cluster.Name)
	}
	log.Info("skerry leaves this machine", "name", node.Name, "id", node.ID)
	for _, unit := range append([]string{serverUnit, agentUnit}, networkUnits...) {
		if _, err := os.Stat(filepath.Join(units, unit)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := run(ctx, "systemctl", "disable", "--now", unit); err != nil {
			return err
		}
	}
	return remove(ctx)
}

// remove removes skerry's files. The node's own, which says that they may be
// removed, is the last of its directory, and the program the last of all.
func remove(ctx context.Context) error {
	all, err := guestFiles()
	if err != nil {
		return err
	}
	paths := []string{agent.RegistriesConf} // of an agent that did not end well
	for _, f := range all {
		paths = append(paths, f.path)
	}
	entries, err := os.ReadDir(Data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() != agent.NodeFile {
			paths = append(paths, filepath.Join(Data, e.Name()))
		}
	}
	if err := unmountBelow(Data); err != nil {
		return err
	}
	paths = append(paths, "/run/skerry", filepath.Join(Data, agent.NodeFile), Data, program+Previous, program)
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove %s: %w", path, err)
		}
	}
	return run(ctx, "systemctl", "daemon-reload")
}

// unmountBelow unmounts what is mounted below a directory, as volumes of a size are:
// it would be in the way of the removal.
func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) { // the innermost come last
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasPrefix(fields[4], dir+"/") {
			continue
		}
		if err := unix.Unmount(fields[4], unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", fields[4], err)
		}
	}
	return nil
}

// Previous is what follows the name of the program that was there before the
// present one.
const Previous = ".previous"

// Renew follows a new program: it writes the units as that has them, and starts
// anew what runs here. Containers run on. It returns when the agent was started
// and the control plane, where the node has one, answers.
func Renew(ctx context.Context) error {
	if err := writeGuestFiles(); err != nil {
		return err
	}
	if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	// Not try-restart: one that has failed is started again, too.
	if run(ctx, "systemctl", "--quiet", "is-enabled", serverUnit) == nil {
		if err := run(ctx, "systemctl", "restart", serverUnit); err != nil {
			return err
		}
	}
	// Those of the networks run only where the agent has started them.
	if err := run(ctx, "systemctl", append([]string{"try-restart"}, networkUnits...)...); err != nil {
		return err
	}
	return run(ctx, "systemctl", "restart", agentUnit)
}
