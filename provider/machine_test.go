package provider

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/debiantest"
)

// built are the programs that tests have built, by version.
var built = struct {
	sync.Mutex // guards programs
	programs   map[string][]byte
}{programs: map[string][]byte{}}

// program builds skerry as a version.
func program(t *testing.T, version string) []byte {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if there := built.programs[version]; there != nil {
		return there
	}
	path := filepath.Join(t.TempDir(), "skerry")
	build := exec.Command("go", "build", "-ldflags", "-s -w -X main.version="+version, "-o", path, "../cmd/skerry")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	built.programs[version] = text
	return text
}

// plugin is the connections of a plugin of a version.
func plugin(t *testing.T, version string) *Connections {
	t.Helper()
	text := program(t, version)
	c, err := connect(slog.New(slog.NewTextHandler(testLog{t}, nil)), version)(t.Context(), &Settings{})
	if err != nil {
		t.Fatal(err)
	}
	c.program = func(string) ([]byte, error) { return text, nil }
	t.Cleanup(c.machines.Close)
	return c
}

type testLog struct{ testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.Logf("%s", strings.TrimSpace(string(line)))
	return len(line), nil
}

// control is the control plane of a cluster.
func (c *Connections) control(t *testing.T, spec *Cluster) *client.Server {
	t.Helper()
	endpoints, err := resources.ParseEndpoints(spec.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return c.machines.Server(endpoints...)
}

// The whole life of machines that were there before skerry: what one lacks is
// named, they join, are repaired, and are left as they were.
func TestMachinesThatWereThere(t *testing.T) {
	machines := debiantest.Start(t, 2)
	server, worker := machines[0], machines[1]
	c := plugin(t, "0.1.0")
	spec := &Cluster{Cluster: resources.Cluster{Name: "home", Servers: []string{server.Endpoint()}, Workers: []string{worker.Endpoint()}}}

	for _, d := range machines {
		d.Write(t, "fakes/stat", "#!/bin/sh\necho tmpfs\n", 0o755)
		os.Remove(filepath.Join(d.Dir(), "run/systemd/system/.here")) //nolint:errcheck // the next says so
		if err := os.Remove(filepath.Join(d.Dir(), "run/systemd/system")); err != nil {
			t.Fatal(err)
		}
	}
	err := createCluster(t.Context(), c, spec)
	for _, words := range []string{"servers[0]: 127.0.0.1 can't become a node: systemd does not run", "workers[0]: 127.0.0.1 can't become a node: /sys/fs/cgroup is tmpfs"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("the error lacks %q: %v", words, err)
		}
	}
	for _, d := range machines {
		if left := d.Left(t); len(left) > 0 {
			t.Errorf("a machine that can't be a node has %q", left)
		}
		d.Write(t, "fakes/stat", "#!/bin/sh\necho cgroup2fs\n", 0o755)
		d.Write(t, "run/systemd/system/.here", "", 0o600)
	}

	if err := createCluster(t.Context(), c, spec); err != nil {
		t.Fatal(err)
	}
	nodes, err := c.control(t, spec).Nodes(t.Context())
	if err != nil || len(nodes) != 2 || !nodes[0].Ready || !nodes[1].Ready || len(spec.Nodes) != 2 {
		t.Fatalf("%+v, %q, %v", nodes, spec.Nodes, err)
	}
	if e, err := resources.ParseEndpoint(spec.Endpoint); err != nil || string(e.Node) != spec.Nodes[0] || e.HostKey != server.SSH.Fingerprint {
		t.Errorf("the endpoint %s needs something beside it: %v", spec.Endpoint, err)
	}
	for _, d := range machines {
		if got := d.Read(t, "root/.ssh/authorized_keys"); got != "the owner's\n" {
			t.Errorf("who may log in has become %q", got)
		}
		if _, err := os.Stat(filepath.Join(d.Dir(), "state/systemctl")); err != nil {
			t.Error(err)
		}
	}

	// Whatever was cut off is made up for, and the node stays the same one.
	worker.Kill("skerry-agent.service")
	for _, name := range []string{"units/skerry-agent.service", "bin/skerry", "run/skerry/agent.sock"} {
		if err := os.Remove(filepath.Join(worker.Dir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	prior, again := *spec, *spec
	if err := updateCluster(t.Context(), c, &prior, &again); err != nil {
		t.Fatal(err)
	}
	if again.Nodes[1] != spec.Nodes[1] || again.Endpoint != spec.Endpoint {
		t.Errorf("the nodes were %q, and are %q", spec.Nodes, again.Nodes)
	}

	// One that leaves is left as it was; that it is cut off changes nothing.
	alone := again
	alone.Workers, alone.Nodes = nil, nil
	for range 2 {
		if err := updateCluster(t.Context(), c, &again, &alone); err != nil {
			t.Fatal(err)
		}
		if left := worker.Left(t); len(left) > 0 {
			t.Errorf("the worker has %q", left)
		}
	}
	if nodes, err := c.control(t, spec).Nodes(t.Context()); err != nil || len(nodes) != 1 {
		t.Errorf("%+v, %v", nodes, err)
	}
	for range 2 {
		if warnings, err := deleteCluster(t.Context(), c, &alone); err != nil || len(warnings) > 0 {
			t.Fatalf("%q, %v", warnings, err)
		}
	}
	if left := server.Left(t); len(left) > 0 {
		t.Errorf("the server has %q", left)
	}

	// By hand, where nobody is left who would do it.
	lone := &Cluster{Cluster: resources.Cluster{Name: "lone", Servers: []string{server.Endpoint()}}}
	if err := createCluster(t.Context(), c, lone); err != nil {
		t.Fatal(err)
	}
	e, err := resources.ParseEndpoint(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.machines.RunAsRoot(t.Context(), e, "skerry abandon", nil); err == nil || !strings.Contains(err.Error(), "is in cluster lone still") {
		t.Error(err)
	}
	if _, err := c.machines.RunAsRoot(t.Context(), e, "skerry abandon --force", nil); err != nil {
		t.Error(err)
	}
	if left := server.Left(t); len(left) > 0 {
		t.Errorf("the server has %q", left)
	}
}
