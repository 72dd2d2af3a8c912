package podmanruntime

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

var update = flag.Bool("update", false, "write the golden files anew")

const testDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// Each case is one file in testdata/spec: the spec as Podman gets it.
func TestSpec(t *testing.T) {
	for name, replica := range map[string]resources.Replica{
		"defaults": testReplica(func(*resources.Replica) {}),
		"networks": testReplica(func(r *resources.Replica) {
			r.Template.Ports = []resources.Port{{Target: 80, Mode: resources.PortHost}}
			r.Addresses = []resources.NetworkAddress{
				{Network: "front", Address: netip.MustParseAddr("10.40.32.2")}, {Network: "back", Address: netip.MustParseAddr("10.41.32.2")},
			}
		}),
		"every_field": testReplica(func(r *resources.Replica) {
			r.ImageDigest = testDigest
			r.Template = resources.Template{
				Image: "registry.skerry.internal/team/web:1.0", Entrypoint: []string{"/init"}, Command: []string{"serve"},
				Args: []string{"--port", "80"}, Env: map[string]string{"A": "1", "B": "two words"}, WorkingDir: "/srv", User: "1000:100",
				Hostname: "host", Resources: resources.Reservation{CPU: 2500, Memory: 64 * resources.MiB},
				Ports:  []resources.Port{{Target: 80, Published: 8080, Protocol: "tcp"}, {Target: 53, Protocol: "udp"}},
				CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, Privileged: true, Devices: []string{"/dev/fuse", "/dev/sda:/dev/xvda:r"},
				ReadOnly: true, Tmpfs: []resources.Tmpfs{{Path: "/tmp"}, {Path: "/cache", Size: resources.MiB}},
				HostMounts: []resources.HostMount{{Source: "/data", Target: "/data"}, {Source: "/etc/ssl", Target: "/etc/ssl", ReadOnly: true}},
				Ulimits:    map[string]resources.Ulimit{"nofile": {Soft: 1024, Hard: 2048}, "RLIMIT_CORE": {Soft: -1, Hard: -1}},
				Sysctls:    map[string]string{"net.core.somaxconn": "1024"}, Labels: map[string]string{"team": "a", LabelReplica: "forged"},
				StopSignal: "SIGQUIT", StopGrace: resources.Duration(1500 * time.Millisecond),
				Logs: &resources.Logs{MaxSize: resources.MiB, MaxFiles: 5},
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := spec(replica, "/run/skerry/netns")
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "spec", name+".json"), string(got)+"\n")
		})
	}
}

func TestSpecRefusesAnUnknownSignal(t *testing.T) {
	_, err := spec(testReplica(func(r *resources.Replica) { r.Template.StopSignal = "SIGNONE" }), "")
	if err == nil || !strings.Contains(err.Error(), "stop_signal") {
		t.Errorf("got %v; want an error that names stop_signal", err)
	}
}

func TestImageReference(t *testing.T) {
	for _, c := range []struct{ image, digest, want string }{
		{"nginx", "", "nginx"},
		{"nginx:1.27", testDigest, "docker.io/library/nginx@" + testDigest},
		{"localhost:5000/web", testDigest, "localhost:5000/web@" + testDigest},
		{"localhost:5000/web:1", testDigest, "localhost:5000/web@" + testDigest},
		{"registry.skerry.internal/web@" + testDigest, testDigest, "registry.skerry.internal/web@" + testDigest},
		{"a/b:1@sha256:ff", testDigest, "docker.io/a/b@" + testDigest},
	} {
		if got := imageReference(c.image, c.digest); got != c.want {
			t.Errorf("imageReference(%q, %q) = %q, want %q", c.image, c.digest, got, c.want)
		}
	}
}

func TestHostnameFitsTheKernel(t *testing.T) {
	long := strings.Repeat("s", 63)
	for _, c := range []struct{ service, id, want string }{
		{"web", "web-0-k3f9qz", "web-0-k3f9qz"},
		{long, long + "-0-k3f9qz", strings.Repeat("s", 54) + "-0-k3f9qz"},
		{"other", long + "-0-k3f9qz", strings.Repeat("s", 54) + "-0-k3f9qz"},
	} {
		got := hostname(resources.Replica{Service: c.service, ID: resources.ReplicaID(c.id)})
		if got != c.want || len(got) > maxHostname {
			t.Errorf("hostname(%q) = %q, want %q", c.id, got, c.want)
		}
	}
}

func TestGraceRoundsUp(t *testing.T) {
	for d, want := range map[time.Duration]uint{0: 10, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, time.Minute: 60} {
		if got := graceSeconds(resources.Duration(d)); got != want {
			t.Errorf("graceSeconds(%s) = %d, want %d", d, got, want)
		}
	}
}

// testReplica is a small valid replica, changed.
func testReplica(change func(*resources.Replica)) resources.Replica {
	service := resources.Service{Name: "web", Template: resources.Template{Image: "docker.io/library/nginx:1.27"}}
	service.SetDefaults()
	r := resources.Replica{ID: "web-0-k3f9qz", Service: "web", Revision: 3, Wanted: true, Template: service.Template}
	change(&r)
	return r
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; write it anew with -update if that is right:\n%s", path, diff)
	}
}
