package provider

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// checkVersion returns what is wrong with a wanted version, or "". A plugin
// carries the program of its own version.
func checkVersion(wanted, runs, own string) string {
	switch {
	case wanted == "" || wanted == runs:
		return ""
	case wanted != own:
		return fmt.Sprintf("is %s, and this plugin carries %s: write that, or use version %s of the plugin", wanted, own, wanted)
	case newer(runs, wanted):
		return fmt.Sprintf("is %s, and the nodes run %s already: versions go forward; docs/upgrades.md says how a node goes back", wanted, runs)
	default:
		return ""
	}
}

// newer is true where version a is known to be after version b. Those of builds
// that were not released have no order.
func newer(a, b string) bool {
	x, isRelease := release(a)
	y, alsoRelease := release(b)
	return isRelease && alsoRelease && slices.Compare(x[:], y[:]) > 0
}

func release(version string) (numbers [3]int, isRelease bool) {
	n, err := fmt.Sscanf(version, "%d.%d.%d", &numbers[0], &numbers[1], &numbers[2])
	return numbers, err == nil && n == 3
}

// runs gives the version that a cluster runs: the earliest of its nodes'.
func runs(nodes []resources.NodeStatus) string {
	version := ""
	for _, n := range nodes {
		if version == "" || newer(version, n.Version) {
			version = n.Version
		}
	}
	return version
}

// nextUpgrade picks the node that is upgraded next, or returns false where all
// run the version or a newer one. A node that is not ready comes first: nothing
// is lost by it, and it may be the one where an upgrade was given up. Then come
// workers, then servers, and the leader last of all, so that it is elected anew
// once.
func nextUpgrade(cluster resources.ClusterStatus, nodes []resources.NodeStatus, version string) (resources.NodeStatus, bool) {
	rank := func(n resources.NodeStatus) int {
		switch {
		case !n.Ready:
			return 0
		case n.ID == cluster.Leader:
			return 3
		case slices.Contains(cluster.Members, n.ID):
			return 2
		default:
			return 1
		}
	}
	waiting := slices.DeleteFunc(slices.Clone(nodes), func(n resources.NodeStatus) bool {
		return n.Version == version || newer(n.Version, version)
	})
	if len(waiting) == 0 {
		return resources.NodeStatus{}, false
	}
	return slices.MinFunc(waiting, func(a, b resources.NodeStatus) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	}), true
}

// hindrance says why a node can't be upgraded now, or "": whatever else is down
// while it restarts could cost the quorum, or replicas.
func hindrance(cluster resources.ClusterStatus, nodes []resources.NodeStatus, next resources.NodeID) string {
	switch {
	case cluster.Waiting != "":
		return cluster.Waiting
	case cluster.Leader == "":
		return "the control plane has no leader"
	case !slices.Equal(cluster.Wanted, cluster.Members):
		return "the control plane does not run on all servers yet"
	}
	var silent []string
	for _, n := range nodes {
		if !n.Ready && n.ID != next {
			silent = append(silent, n.Name)
		}
	}
	if len(silent) > 0 {
		return fmt.Sprintf("not ready: %s", strings.Join(silent, ", "))
	}
	return ""
}

// How long an upgrade waits for a cluster to be whole before the next node, and
// for a node to be back.
const (
	wholePatience = 2 * time.Minute
	backPatience  = 2 * time.Minute
)

// fleet is what an upgrade works on.
type fleet interface {
	// look tells how the cluster is.
	look(ctx context.Context) (resources.ClusterStatus, []resources.NodeStatus, error)
	// upgrade puts the version on a node, and returns when it is ready with it.
	upgrade(ctx context.Context, node resources.NodeStatus, version string) error
}

// upgradeAll upgrades one node after the other. A node that fails ends it, and
// the others stay as they are; the next one goes on from there.
func upgradeAll(ctx context.Context, f fleet, version string) error {
	for done := 0; ; done++ {
		node, more, err := whole(ctx, f, version)
		if err == nil && !more {
			return nil
		}
		if err == nil {
			err = f.upgrade(ctx, node, version)
		}
		if err != nil {
			return fmt.Errorf("upgrade to %s, which %d nodes took now: %w\nThe other nodes stay as they are. The next apply goes on", version, done, err)
		}
	}
}

// whole waits until the next node can be upgraded.
func whole(ctx context.Context, f fleet, version string) (resources.NodeStatus, bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wholePatience, fmt.Errorf("it did not change within %s", wholePatience))
	defer cancel()
	for {
		var why string
		cluster, nodes, err := f.look(ctx)
		if err == nil {
			node, more := nextUpgrade(cluster, nodes, version)
			if why = hindrance(cluster, nodes, node.ID); why == "" || !more {
				return node, more, nil
			}
		} else {
			why = err.Error()
		}
		// The status of a cluster and of each of its nodes are watches of their
		// own; looking is simpler, and this is rare.
		select {
		case <-ctx.Done():
			return resources.NodeStatus{}, false, fmt.Errorf("the cluster is not well, and no further node is taken down: %s (%w)", why, context.Cause(ctx))
		case <-time.After(registerStep):
		}
	}
}

// members are the nodes of a cluster, as machines.
type members struct {
	*Connections
	control  *client.Server
	machines []machine
}

func (m *members) look(ctx context.Context) (resources.ClusterStatus, []resources.NodeStatus, error) {
	cluster, err := m.control.Cluster(ctx)
	if err != nil {
		return cluster, nil, err
	}
	nodes, err := m.control.Nodes(ctx)
	nodes = slices.DeleteFunc(nodes, func(n resources.NodeStatus) bool { return m.find(n.ID) == nil })
	return cluster, nodes, err
}

func (m *members) find(id resources.NodeID) *machine {
	i := slices.IndexFunc(m.machines, func(one machine) bool { return one.Node == id })
	if i < 0 {
		return nil
	}
	return &m.machines[i]
}

func (m *members) upgrade(ctx context.Context, node resources.NodeStatus, version string) error {
	on := m.find(node.ID)
	fail := func(err error) error { return fmt.Errorf("%s: node %s: %w", on.path, node.Name, err) }
	if on.Host == "" {
		return fail(fmt.Errorf("it runs in the foreground (skerry dev): start it anew with skerry %s", version))
	}
	m.log.Info("the node is upgraded", "node", node.Name, "from", node.Version, "to", version)
	said, err := m.Connections.machines.Run(ctx, on.Endpoint, "uname -m", nil)
	if err != nil {
		return fail(err)
	}
	arch, err := goArch(strings.TrimSpace(said))
	if err != nil {
		return fail(err)
	}
	if err := m.install(ctx, on.Endpoint, arch); err != nil {
		return fail(err)
	}
	if _, err := m.Connections.machines.RunAsRoot(ctx, on.Endpoint, programPath+" renew", nil); err != nil {
		return fail(fmt.Errorf("start skerry %s there: %w%s", version, err, m.journal(ctx, on.Endpoint)))
	}
	if err := m.back(ctx, on.Endpoint, node.ID, version); err != nil {
		return fail(fmt.Errorf("%w%s", err, m.journal(ctx, on.Endpoint)))
	}
	return nil
}

// back returns when a node has come back as the version: its agent answers, and
// the control plane hears it.
func (m *members) back(ctx context.Context, e resources.Endpoint, id resources.NodeID, version string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, backPatience, fmt.Errorf("it was not back within %s", backPatience))
	defer cancel()
	info, err := m.Connections.machines.Agent(e).Await(ctx)
	if err != nil {
		return err
	}
	if info.Version != version {
		return fmt.Errorf("its agent says that it is skerry %s, and the plugin's program should be %s: use a plugin that was built whole (make install)", info.Version, version)
	}
	// A watch that fails begins again: leaders change while servers restart.
	for {
		err := m.control.WatchNode(ctx, id, func(s resources.NodeStatus) (bool, error) { return !s.Ready || s.Version != version, nil })
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the control plane hears it as skerry %s: %w", version, err)
		case <-time.After(registerStep):
		}
	}
}

// follow brings the nodes to the cluster's version where this plugin carries it,
// and tells which one they run where the user says nothing. before is what the
// state said of them.
func (c *Connections) follow(ctx context.Context, control *client.Server, spec *Cluster, before string, machines []machine) error {
	m := &members{Connections: c, control: control, machines: machines}
	if spec.Version == c.version {
		return upgradeAll(ctx, m, spec.Version)
	}
	if reason := checkVersion(spec.Version, before, c.version); reason != "" {
		return resources.Invalid("version", "%s", reason)
	}
	if spec.Version == "" {
		_, nodes, err := m.look(ctx)
		if err != nil {
			return err
		}
		spec.Version = runs(nodes)
	}
	return nil
}
