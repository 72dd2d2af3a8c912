package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// dev is a node without a VM, and what the tests ask of it.
type dev struct{ *testbed.Host }

// startDev starts a node that stands alone.
func startDev(t *testing.T) *dev {
	t.Helper()
	d := &dev{testbed.NewHost(t, skerry())}
	d.Start(t)
	return d
}

// startHosts starts nodes that reach each other.
func startHosts(t *testing.T, n int) []*dev {
	t.Helper()
	var hosts []*dev
	for _, h := range testbed.New(t, skerry(), n).Hosts {
		hosts = append(hosts, &dev{h})
	}
	return hosts
}

// skerry is the program that was built for the tests.
func skerry() string { return filepath.Join(bin, "skerry") }

func controlOf(t *testing.T, hosts ...*dev) *client.Server {
	return testbed.Control(t, plain(hosts)...)
}

func plain(hosts []*dev) []*testbed.Host {
	all := make([]*testbed.Host, len(hosts))
	for i, d := range hosts {
		all[i] = d.Host
	}
	return all
}

// answers asks the service until it says what is wanted.
func (d *dev) answers(t *testing.T, want string) {
	t.Helper()
	answers(t, d.Podman.Client(), "http://127.0.0.1:8080/", want)
}

// containers lists the IDs of the containers of a service.
func (d *dev) containers(t *testing.T, service string) []string {
	t.Helper()
	out, err := d.Podman.Podman(t.Context(), "ps", "-a", "--no-trunc", "--format", "{{.ID}}", "--filter", "label=io.skerry.service="+service).Output()
	if err != nil {
		t.Fatalf("list the containers: %v", err)
	}
	ids := strings.Fields(string(out))
	slices.Sort(ids)
	return ids
}

const devConfiguration = `
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [%[1]q]
}
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = %[2]q
}
resource "skerry_service" "web" {
  cluster   = skerry_cluster.home.endpoint
  name      = "web"
  image     = skerry_image.web.reference
  ports     = [{ target = 8080 }]
  env       = { GREETING = "hello" }
  resources = { cpu = "50m", memory = "32MiB" }
}
resource "skerry_service" "worker" {
  cluster   = skerry_cluster.home.endpoint
  name      = "worker"
  image     = skerry_image.web.reference
  replicas  = %[3]d
  resources = { cpu = "50m", memory = "32MiB" }
}
`

// probed answers to its probes, at port 8081 too.
const probed = `
resource "skerry_service" "probed" {
  cluster   = skerry_cluster.home.endpoint
  name      = "probed"
  image     = skerry_image.web.reference
  ports     = [{ target = 8080, published = 8081 }]
  resources = { cpu = "50m", memory = "32MiB" }
  health = {
    startup   = { exec = { command = ["/web", "-exit", "0"] }, timeout = "30s" }
    readiness = { http = { port = 8080, path = "/health" }, interval = "1s", timeout = "5s", failure_threshold = 1 }
    liveness  = { http = { port = 8080, path = "/health" }, interval = "1s", timeout = "5s" }
  }
}
`

// What a service lives through, without a VM.
func TestServices(t *testing.T) {
	t.Parallel()
	d := startDev(t)
	one, two := images.ArchiveVersion(t, "1"), images.ArchiveVersion(t, "2")
	configure := func(archive string, workers int, more ...string) string {
		return fmt.Sprintf(devConfiguration, d.Endpoint, archive, workers) + strings.Join(more, "\n")
	}
	tf := NewTerraform(t, bin, configure(one, 1))
	destroyed := false
	t.Cleanup(func() {
		if !destroyed {
			tf.Try(t, "destroy", "-auto-approve") //nolint:errcheck // the test has failed already
		}
	})

	tf.Apply(t)
	d.answers(t, "version 1")
	tf.Settled(t)

	t.Run("more replicas leave the running ones alone", func(t *testing.T) {
		before := d.containers(t, "worker")
		tf.Configure(t, configure(one, 3))
		tf.Apply(t)
		after := d.containers(t, "worker")
		if len(after) != 3 || !slices.Contains(after, before[0]) {
			t.Errorf("before: %v, after: %v", before, after)
		}
		tf.Settled(t)
	})

	t.Run("another image replaces the replicas", func(t *testing.T) {
		tf.Configure(t, configure(two, 1))
		tf.Apply(t)
		d.answers(t, "version 2")
		tf.Settled(t)
	})

	t.Run("a crashed container comes back", func(t *testing.T) {
		before := d.containers(t, "web")
		followed := d.follows(t, "logs", "--follow", "web")
		if line := followed(t); !strings.Contains(line, "listening on :8080") {
			t.Errorf("the log begins with %q", line)
		}
		d.crash(t)
		d.answers(t, "version 2")
		// Who follows the log reads on with the next run.
		for !strings.Contains(followed(t), "listening on :8080") {
			continue
		}
		if said := d.says(t, []string{"logs", "--previous", "web"}); strings.Count(said, "listening on :8080") != 1 {
			t.Errorf("the log of the previous run is %q", said)
		}
		if after := d.containers(t, "web"); !slices.Equal(before, after) {
			t.Errorf("the replica was replaced, and not started again: %v, %v", before, after)
		}
		tf.Settled(t)
	})

	t.Run("a container that was removed by hand comes back", func(t *testing.T) {
		before := d.containers(t, "web")
		if out, err := d.Podman.Podman(t.Context(), append([]string{"rm", "-f", "-t", "0"}, before...)...).CombinedOutput(); err != nil {
			t.Fatalf("remove the container: %v: %s", err, out)
		}
		d.answers(t, "version 2")
		tf.Settled(t)
	})

	t.Run("what can't run says why", func(t *testing.T) {
		for _, c := range []struct{ name, service, want string }{
			{"command", `command = ["/nothing"]` + "\n  entrypoint = [\"/nothing\"]", "CommandNotFound"},
			{"crash", `env = { EXIT = "3" }`, "exit code 3"},
			{"port", `ports = [{ target = 8080 }]`, "is 8080/tcp, which service web publishes on every node"},
			{"memory", `resources = { memory = "1000GiB" }`, "too small in memory"},
		} {
			bad := fmt.Sprintf("resource \"skerry_service\" \"bad\" {\n  cluster = skerry_cluster.home.endpoint\n  name = \"bad\"\n  image = skerry_image.web.reference\n  %s\n}\n", c.service)
			tf.Configure(t, configure(two, 1, bad))
			if said := tf.ApplyFails(t); !strings.Contains(said, c.want) {
				t.Errorf("%s: the error does not say %q:\n%s", c.name, c.want, said)
			}
		}
		missing := "resource \"skerry_service\" \"bad\" {\n  cluster = skerry_cluster.home.endpoint\n  name = \"bad\"\n  image = \"registry.skerry.internal/web:1\"\n}\n"
		tf.Configure(t, configure(two, 1, missing))
		if said := tf.ApplyFails(t); !strings.Contains(said, "use the reference of a skerry_image") {
			t.Errorf("a wrong image is not explained:\n%s", said)
		}
		tf.Configure(t, configure(two, 1))
		tf.Apply(t)
		d.answers(t, "version 2")
	})

	t.Run("a replica that is not healthy is started again", func(t *testing.T) {
		tf.Configure(t, configure(two, 1, probed))
		tf.Apply(t)
		tf.Settled(t)
		d.get(t, "http://127.0.0.1:8081/health?be=503")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var seen []resources.ReplicaStatus
		err := controlOf(t, d).WatchService(ctx, "probed", func(s resources.ServiceStatus) (bool, error) {
			now := s.Replicas[0].Status
			seen = append(seen, now)
			return now.Restarts == 0 || now.NotReady || now.State != resources.ReplicaRunning, nil
		})
		if err != nil || !slices.ContainsFunc(seen, func(s resources.ReplicaStatus) bool {
			return s.Reason == resources.ReasonNotReady && strings.Contains(s.Message, "503 Service Unavailable (as asked)")
		}) || !slices.ContainsFunc(seen, func(s resources.ReplicaStatus) bool { return s.Reason == resources.ReasonUnhealthy }) {
			t.Errorf("%v, seen %+v", err, seen)
		}
		tf.Configure(t, configure(two, 1))
		tf.Apply(t)
	})

	t.Run("everything can be imported", func(t *testing.T) {
		cluster := tf.Attribute(t, "skerry_cluster.home", "endpoint").(string)
		tf.Forget(t)
		tf.Run(t, "import", "skerry_cluster.home", d.Endpoint)
		tf.Run(t, "import", "skerry_image.web", "web="+two+"@"+cluster)
		tf.Run(t, "import", "skerry_service.web", "web@"+cluster)
		tf.Run(t, "import", "skerry_service.worker", "worker@"+cluster)
		tf.Settled(t)
	})

	tf.Destroy(t)
	destroyed = true
	if left := append(d.containers(t, "web"), d.containers(t, "worker")...); len(left) > 0 {
		t.Errorf("containers after the destroy: %v", left)
	}
	for _, name := range []string{"etcd", "registry", "cluster.json"} {
		if _, err := os.Stat(filepath.Join(d.Dir, "data", name)); !os.IsNotExist(err) {
			t.Errorf("%s is there after the destroy", name)
		}
	}
}

// crash makes the web program end.
func (d *dev) crash(t *testing.T) {
	t.Helper()
	d.get(t, "http://127.0.0.1:8080/crash")
}

// get asks from within the host, whatever the answer is.
func (d *dev) get(t *testing.T, url string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := d.Podman.Client().Do(request); err == nil {
		response.Body.Close() //nolint:errcheck // it has no content of interest
	}
}
