package provider

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/debiantest"
	"github.com/skerry-io/skerry/test/images"
)

func TestCheckVersion(t *testing.T) {
	for _, c := range []struct {
		name, wanted, runs, own string
		want                    string
	}{
		{"left out", "", "1.0.0", "1.1.0", ""},
		{"a new cluster", "1.1.0", "", "1.1.0", ""},
		{"an upgrade", "1.1.0", "1.0.0", "1.1.0", ""},
		{"nothing to do", "1.0.0", "1.0.0", "1.1.0", ""},
		{"another plugin's", "1.2.0", "1.0.0", "1.1.0", "is 1.2.0, and this plugin carries 1.1.0"},
		{"backwards", "1.9.0", "1.10.0", "1.9.0", "versions go forward"},
		{"a build of its own", "dev", "1.0.0", "dev", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := checkVersion(c.wanted, c.runs, c.own); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Error(got)
			}
		})
	}
}

// fakeFleet is a cluster of 3 servers, of which the second leads, and workers.
type fakeFleet struct {
	cluster resources.ClusterStatus
	nodes   []resources.NodeStatus
	order   []string // as they were upgraded
	fails   string
	down    []string // of whom each look sees one come back
}

func newFleet() *fakeFleet {
	f := &fakeFleet{cluster: resources.ClusterStatus{Leader: "s2", Wanted: []resources.NodeID{"s1", "s2", "s3"}, Members: []resources.NodeID{"s1", "s2", "s3"}}}
	for _, id := range []resources.NodeID{"s1", "s2", "s3", "w1", "w2"} {
		f.nodes = append(f.nodes, resources.NodeStatus{NodeInfo: resources.NodeInfo{ID: id, Name: string(id), Version: "1.0.0"}, Ready: true})
	}
	return f
}

func (f *fakeFleet) node(name string) *resources.NodeStatus {
	return &f.nodes[slices.IndexFunc(f.nodes, func(n resources.NodeStatus) bool { return n.Name == name })]
}

func (f *fakeFleet) look(context.Context) (resources.ClusterStatus, []resources.NodeStatus, error) {
	if len(f.down) > 0 {
		f.node(f.down[0]).Ready = true
		f.down = f.down[1:]
	}
	return f.cluster, slices.Clone(f.nodes), nil
}

func (f *fakeFleet) upgrade(_ context.Context, node resources.NodeStatus, version string) error {
	if node.Name == f.fails {
		f.node(node.Name).Ready = false
		return errors.New("it does not start")
	}
	f.order = append(f.order, node.Name)
	n := f.node(node.Name)
	n.Version, n.Ready = version, true
	if node.ID == f.cluster.Leader {
		f.cluster.Leader = "s1"
	}
	return nil
}

func TestUpgradesGoOneAtATime(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*fakeFleet)
		order  string
		err    string
	}{
		{"workers, servers, the leader last", func(*fakeFleet) {}, "w1 w2 s1 s3 s2", ""},
		{"what is there already is left", func(f *fakeFleet) { f.node("w1").Version, f.node("s3").Version = "1.1.0", "1.2.0" }, "w2 s1 s2", ""},
		{"one that fails ends it", func(f *fakeFleet) { f.fails = "s1" }, "w1 w2", "which 2 nodes took now: it does not start"},
		{"the next apply goes on where it failed", func(f *fakeFleet) { f.node("w1").Version, f.node("s1").Ready = "1.1.0", false }, "s1 w2 s3 s2", ""},
		{"a node is down", func(f *fakeFleet) { f.node("w1").Version, f.node("w1").Ready = "1.1.0", false }, "", "no further node is taken down: not ready: w1"},
		{"two are down", func(f *fakeFleet) { f.node("s1").Ready, f.node("s3").Ready = false, false }, "", "not ready: s3"},
		{"a node comes back", func(f *fakeFleet) {
			f.node("w1").Version, f.node("w1").Ready, f.down = "1.1.0", false, []string{"w2", "w1"}
		}, "w2 s1 s3 s2", ""},
		{"no leader", func(f *fakeFleet) { f.cluster.Leader = "" }, "", "no leader"},
		{"a server joins", func(f *fakeFleet) { f.cluster.Waiting = "s3 catches up" }, "", "s3 catches up"},
		{"a server has not joined", func(f *fakeFleet) { f.cluster.Members = f.cluster.Members[:2] }, "", "not run on all servers"},
		{"nothing is to be done, so nothing is in the way", func(f *fakeFleet) {
			f.cluster.Leader = ""
			for i := range f.nodes {
				f.nodes[i].Version = "1.1.0"
			}
		}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet()
				c.change(f)
				err := upgradeAll(t.Context(), f, "1.1.0")
				if diff := cmp.Diff(c.order, strings.Join(f.order, " ")); diff != "" {
					t.Error(diff)
				}
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Error(err)
				}
			})
		})
	}
}

// From one version to the next, with a program in between that does not start,
// while services run.
func TestUpgrade(t *testing.T) {
	machines := debiantest.Start(t, 4)
	worker, server := machines[3], machines[1]
	// Not root, and so through sudo.
	server.User = "admin"
	reference := ""
	for _, m := range machines {
		reference = m.Podman.Load(t, images.Archive(t))
	}
	spec := &Cluster{Cluster: resources.Cluster{Name: "home", Workers: []string{worker.Endpoint()}}}
	for _, m := range machines[:3] {
		spec.Servers = append(spec.Servers, m.Endpoint())
	}
	if err := createCluster(t.Context(), plugin(t, "0.1.0"), spec); err != nil {
		t.Fatal(err)
	}
	if spec.Version != "0.1.0" {
		t.Fatalf("the version is %q", spec.Version)
	}
	c := plugin(t, "0.2.0")
	web := Service{Service: resources.Service{Name: "web", Replicas: 4, Template: resources.Template{Image: reference}}, Cluster: spec.Endpoint}
	if err := createService(t.Context(), c, &web); err != nil {
		t.Fatal(err)
	}
	before := containers(t, machines)

	// A newer plugin alone upgrades nothing.
	again := *spec
	if err := updateCluster(t.Context(), c, spec, &again); err != nil {
		t.Fatal(err)
	}
	if _, err := readCluster(t.Context(), c, &again); err != nil || again.Version != "0.1.0" {
		t.Fatalf("%q, %v", again.Version, err)
	}

	broken := plugin(t, "0.2.0")
	broken.program = func(string) ([]byte, error) { return []byte("#!/bin/sh\necho no such machine >&2\nexit 1\n"), nil }
	wanted := again
	wanted.Version = "0.2.0"
	err := updateCluster(t.Context(), broken, &again, &wanted)
	if err == nil || !strings.Contains(err.Error(), "workers[0]: node") || !strings.Contains(err.Error(), "no such machine") || !strings.Contains(err.Error(), "0 nodes took") {
		t.Fatal(err)
	}
	if got := versions(t, c, spec); got != "0.1.0 0.1.0 0.1.0 0.1.0" {
		t.Errorf("the nodes run %s", got)
	}
	for _, m := range machines[:3] {
		if _, err := os.Stat(filepath.Join(m.Dir(), "bin/skerry.previous")); err == nil {
			t.Error("a server was touched though the worker had failed")
		}
	}

	if err := updateCluster(t.Context(), c, &again, &wanted); err != nil {
		t.Fatal(err)
	}
	if got := versions(t, c, spec); got != "0.2.0 0.2.0 0.2.0 0.2.0" {
		t.Errorf("the nodes run %s", got)
	}
	if got := server.Read(t, "bin/skerry.previous"); got != string(program(t, "0.1.0")) {
		t.Errorf("the server kept %d bytes of the program before", len(got))
	}
	if diff := cmp.Diff(before, containers(t, machines)); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}

	// Back to the program before, as docs/upgrades.md says.
	e, err := resources.ParseEndpoint(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.machines.RunAsRoot(t.Context(), e, "cd /usr/local/bin && mv skerry.previous skerry && skerry renew", nil); err != nil {
		t.Fatal(err)
	}
	m := &members{Connections: c, control: c.control(t, spec)}
	if err := m.back(t.Context(), e, resources.NodeID(spec.Nodes[1]), "0.1.0"); err != nil {
		t.Fatal(err)
	}
	if _, err := readCluster(t.Context(), c, &wanted); err != nil || wanted.Version != "0.1.0" {
		t.Errorf("%q, %v", wanted.Version, err)
	}
}

// containers lists the running containers of all machines, with when each began.
func containers(t *testing.T, machines []*debiantest.Machine) []string {
	t.Helper()
	var all []string
	for _, m := range machines {
		out, err := m.Podman.Podman(t.Context(), "ps", "--no-trunc", "--format", "{{.ID}} {{.StartedAt}}").Output()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Fields(string(out))...)
	}
	if len(all) == 0 {
		t.Fatal("no container runs")
	}
	return all
}

// versions lists what the nodes run.
func versions(t *testing.T, c *Connections, spec *Cluster) string {
	t.Helper()
	nodes, err := c.control(t, spec).Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, n := range nodes {
		all = append(all, n.Version)
	}
	return strings.Join(all, " ")
}
