package podmanruntime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/podmantest"
)

// deadline bounds each wait for something that takes well under a second.
const deadline = 30 * time.Second

// One Podman serves all the tests here: each has its own containers.
func TestWithPodman(t *testing.T) {
	s := podmantest.StartService(t)
	r := New(s.Socket)
	image := s.Load(t, images.Archive(t))
	for _, c := range []struct {
		name string
		test func(*testing.T, node)
	}{
		{"life cycle", testLifeCycle},
		{"pull", testPull},
		{"digest", testDigestPins},
		{"registries", testRegistries},
		{"file of a secret", testSecretFile},
		{"crash", testCrash},
		{"ends at once", testEndsAtOnce},
		{"killed behind Podman's back", testKilled},
		{"grace", testGrace},
		{"reasons", testReasons},
		{"out of memory", testOutOfMemory},
		{"template", testTemplate},
		{"args", testArgs},
		{"logs", testLogs},
		{"images", testImages},
		{"volume", testVolume},
		{"volume elsewhere", testVolumeElsewhere},
		{"volume read-only", testVolumeReadOnly},
		{"volume without a container", testMountedVolume},
		{"volume of a plugin", testVolumePlugin},
		{"log bound", testLogBound},
		{"log bound across starts", testLogBoundAcrossStarts},
		{"its monitor killed while it stops", testMonitorKilled},
		{"network namespace", testNetworkNamespace},
		{"absent", testAbsent},
		{"foreign container", testForeignContainer},
		{"leftover", testLeftover},
		{"exits", testExits},
		{"damage", testDamage},
		{"exec", testExec},
		{"attach", testAttach},
		{"log stream", testLogStream},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, node{r, s, image}) })
	}
}

// node is what each test gets.
type node struct {
	*Runtime
	service *podmantest.Service
	image   string
}

func (n node) replica(t *testing.T, id string, change func(*resources.Template)) resources.Replica {
	t.Helper()
	r := testReplica(func(r *resources.Replica) {
		r.ID, r.Template.Image = resources.ReplicaID(id), n.image
		r.Template.Resources.Memory = 64 * resources.MiB
		if change != nil {
			change(&r.Template)
		}
	})
	t.Cleanup(func() {
		if err := n.Remove(context.Background(), containerName(r.ID)); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (n node) create(t *testing.T, id string, change func(*resources.Template)) string {
	t.Helper()
	container, err := n.Create(t.Context(), n.replica(t, id, change))
	if err != nil {
		t.Fatal(err)
	}
	return container
}

func (n node) run(t *testing.T, id string, change func(*resources.Template)) (container string, pid int) {
	t.Helper()
	container = n.create(t, id, change)
	pid, err := n.Start(t.Context(), container)
	if err != nil {
		t.Fatal(err)
	}
	return container, pid
}

// listed gives the container as List sees it.
func (n node) listed(t *testing.T, id string) (resources.Container, bool) {
	t.Helper()
	all, err := n.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.ID == id {
			return c, true
		}
	}
	return resources.Container{}, false
}

// ended waits for the process, and gives the container as List sees it then.
func (n node) ended(t *testing.T, id string, pid int) resources.Container {
	t.Helper()
	awaitProcess(t, pid)
	c, found := n.listed(t, id)
	if !found || c.Running {
		t.Fatalf("after its process has ended, the container is %+v", c)
	}
	return c
}

func awaitProcess(t *testing.T, pid int) {
	t.Helper()
	if pid == 0 {
		return
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	until := time.Now().Add(deadline)
	for time.Now().Before(until) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(until).Milliseconds()))
		if n > 0 {
			return
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
	t.Fatalf("process %d runs on after %s", pid, deadline)
}

// get answers with what the URL gives in the service's namespace, once it
// answers at all.
func (n node) get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := n.service.Client().Do(request)
		if err == nil {
			body, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("get %s: %v", url, err)
		}
	}
}

func wantReason(t *testing.T, err error, want resources.Reason) {
	t.Helper()
	var failure *resources.Failure
	if !errors.As(err, &failure) || failure.Reason != want {
		t.Errorf("got %v; want a failure with reason %s", err, want)
		return
	}
	t.Log(err)
}

// twice checks that a step may be repeated.
func twice(t *testing.T, step func() error) {
	t.Helper()
	for range 2 {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

func testLifeCycle(t *testing.T, n node) {
	version, err := n.Version(t.Context())
	if err != nil || !strings.Contains(version, ".") {
		t.Fatalf("version is %q, %v", version, err)
	}
	replica := n.replica(t, "cycle-0-aaaaaa", func(p *resources.Template) {
		p.Env = map[string]string{"GREETING": "hi"}
		p.Ports = []resources.Port{{Target: 8080, Published: 8081, Protocol: "tcp"}}
	})
	image, err := n.ImageID(t.Context(), n.image, "")
	if err != nil {
		t.Fatal(err)
	}
	id, err := n.Create(t.Context(), replica)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.Create(t.Context(), replica); err != nil || again != id {
		t.Errorf("created again it is %s, %v; want %s", again, err, id)
	}
	got, _ := n.listed(t, id)
	if diff := cmp.Diff(resources.Container{ID: id, Replica: replica.ID, Image: image, Created: true}, got); diff != "" {
		t.Error("created:", diff)
	}

	pid, err := n.Start(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.Start(t.Context(), id); err != nil || again != pid {
		t.Errorf("started again it is process %d, %v; want %d", again, err, pid)
	}
	if body := n.get(t, "http://127.0.0.1:8081/"); body != "hi from cycle-0-aaaaaa, version 1\n" {
		t.Errorf("it says %q", body)
	}
	times := cmpopts.IgnoreFields(resources.Container{}, "StartedAt", "FinishedAt", "Address")
	for range 2 { // inspected, and remembered
		got, _ = n.listed(t, id)
		if diff := cmp.Diff(resources.Container{ID: id, Replica: replica.ID, Image: image, Running: true, PID: pid}, got, times); diff != "" {
			t.Error("running:", diff)
		}
		if got.StartedAt.IsZero() || net.ParseIP(got.Address) == nil {
			t.Errorf("started at %s with address %q", got.StartedAt, got.Address)
		}
	}

	twice(t, func() error { return n.Stop(t.Context(), id) })
	got, _ = n.listed(t, id)
	if diff := cmp.Diff(resources.Container{ID: id, Replica: replica.ID, Image: image}, got, times); diff != "" {
		t.Error("stopped:", diff)
	}
	if got.FinishedAt.Before(got.StartedAt) {
		t.Errorf("it ended at %s, before its start", got.FinishedAt)
	}
	twice(t, func() error { return n.Remove(t.Context(), id) })
	if _, found := n.listed(t, id); found {
		t.Error("a removed container is listed")
	}
}

func testPull(t *testing.T, n node) {
	wantReason(t, n.Pull(t.Context(), "localhost/none:1", "", resources.PullNever), resources.ReasonImagePull)
	wantReason(t, n.Pull(t.Context(), "127.0.0.1:1/none:1", "", resources.PullMissing), resources.ReasonImagePull)
	wantReason(t, n.Pull(t.Context(), "Not An Image", "", resources.PullAlways), resources.ReasonImagePull)
	for _, policy := range []string{resources.PullNever, resources.PullMissing, ""} {
		if err := n.Pull(t.Context(), n.image, "", policy); err != nil {
			t.Errorf("policy %q on an image that is there: %v", policy, err)
		}
	}
	_, err := n.Create(t.Context(), n.replica(t, "noimage-0-aaaaaa", func(p *resources.Template) { p.Image = "localhost/none:1" }))
	wantReason(t, err, resources.ReasonImagePull)
}

// A tag moves on in the registry; the digest of the replica decides. The
// cluster's registry and any other behave alike.
func testDigestPins(t *testing.T, n node) {
	var digests []string
	server := httptest.NewUnstartedServer(registry.New())
	server.Listener = n.service.Listen(t, "127.0.0.1:5055")
	server.Start()
	t.Cleanup(server.Close)
	remoteOptions := remote.WithTransport(n.service.Client().Transport)
	for _, version := range []string{"1", "2"} {
		image, err := images.Web(version, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		tag, err := name.NewTag("127.0.0.1:5055/team/web:latest", name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(tag, image, remoteOptions); err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest.String())
	}
	for i, c := range []struct{ image, digest, says string }{
		{"127.0.0.1:5055/team/web:latest", digests[0], "version 1"},
		{"127.0.0.1:5055/team/web:latest", "", "version 2"},
		{resources.ImageReference("team/web", digests[0]), "", "version 1"},
		{resources.ImageReference("team/web", digests[1]), digests[1], "version 2"},
		{resources.Registry + "/team/web:latest", digests[0], "version 1"},
	} {
		twice(t, func() error { return n.Pull(t.Context(), c.image, c.digest, resources.PullMissing) })
		replica := n.replica(t, "pinned-"+strconv.Itoa(i), func(p *resources.Template) {
			p.Image, p.Ports = c.image, []resources.Port{{Target: 8080, Published: 9000 + i, Protocol: "tcp"}}
		})
		replica.ImageDigest = c.digest
		id, err := n.Create(t.Context(), replica)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if body := n.get(t, "http://127.0.0.1:"+strconv.Itoa(9000+i)+"/"); !strings.Contains(body, c.says) {
			t.Errorf("%s with digest %q says %q, want %s", c.image, c.digest, body, c.says)
		}
	}
	missing := "sha256:" + strings.Repeat("0", 64)
	wantReason(t, n.Pull(t.Context(), resources.Registry+"/team/web", missing, resources.PullMissing), resources.ReasonImagePull)

	reference := resources.ImageReference("team/web", digests[1])
	id, err := n.ImageID(t.Context(), reference, "")
	if err != nil || id == "" {
		t.Fatalf("the ID of %s is %q, %v", reference, id, err)
	}
	if got, found := n.local(t, id); !found || !got.Pulled {
		t.Errorf("%s, which was pulled, is listed as %+v", reference, got)
	}
	// The first is what the archive has, which was loaded by hand.
	loaded, err := n.ImageID(t.Context(), n.image, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, found := n.local(t, loaded); !found || got.Pulled {
		t.Errorf("%s, which was loaded, is listed as %+v", n.image, got)
	}
	for i := range 5 {
		if err := n.Remove(t.Context(), containerName(resources.ReplicaID("pinned-"+strconv.Itoa(i)))); err != nil {
			t.Fatal(err)
		}
	}
	twice(t, func() error { return n.RemoveImage(t.Context(), id) })
	if left, found := n.local(t, id); found {
		t.Errorf("after its removal, %s is listed as %+v", reference, left)
	}
}

func testCrash(t *testing.T, n node) {
	id, pid := n.run(t, "crash-0-aaaaaa", func(p *resources.Template) { p.Args = []string{"-exit", "3"} })
	if c := n.ended(t, id, pid); c.ExitCode != 3 || c.OOMKilled || c.Created {
		t.Errorf("crashed, it is %+v; want exit code 3", c)
	}
	logs, err := n.Logs(t.Context(), id, 10)
	if diff := cmp.Diff([]string{"exiting with 3, as asked"}, logs); diff != "" || err != nil {
		t.Error(diff, err)
	}
	// It runs as often as it is started.
	again, err := n.Start(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	n.ended(t, id, again)
	if logs, err = n.Logs(t.Context(), id, 10); err != nil || len(logs) != 2 {
		t.Errorf("after two runs the logs are %q, %v", logs, err)
	}
}

// Podman's own start trips over a process that ends at once, now and then.
func testEndsAtOnce(t *testing.T, n node) {
	for i := range 8 {
		id, pid := n.run(t, "brief-"+strconv.Itoa(i), func(p *resources.Template) { p.Env = map[string]string{"EXIT": "4"} })
		if c := n.ended(t, id, pid); c.ExitCode != 4 || c.Created {
			t.Errorf("it is %+v", c)
		}
	}
}

// The agent sees the end of a process before Podman does. Start and List must
// not be misled by what Podman still believes.
func testKilled(t *testing.T, n node) {
	id, pid := n.run(t, "killed-0-aaaaaa", nil)
	for range 5 {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitProcess(t, pid)
		next, err := n.Start(t.Context(), id)
		if err != nil || next == 0 || next == pid {
			t.Fatalf("started after process %d was killed, it is process %d, %v", pid, next, err)
		}
		pid = next
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if c := n.ended(t, id, pid); c.ExitCode != 137 || c.OOMKilled {
			t.Fatalf("killed, it is %+v; want exit code 137", c)
		}
		if pid, err = n.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

func testGrace(t *testing.T, n node) {
	t.Run("asked", func(t *testing.T) {
		id, pid := n.run(t, "polite-0-aaaaaa", func(p *resources.Template) {
			p.StopGrace = resources.Duration(time.Minute)
			p.Ports = []resources.Port{{Target: 8080, Published: 8082, Protocol: "tcp"}}
		})
		n.get(t, "http://127.0.0.1:8082/")
		begin := time.Now()
		if err := n.Stop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > deadline {
			t.Errorf("it took %s to stop", took)
		}
		if c := n.ended(t, id, pid); c.ExitCode != 0 {
			t.Errorf("it ended with %d, want 0: it was killed", c.ExitCode)
		}
	})
	t.Run("killed", func(t *testing.T) {
		id, pid := n.run(t, "deaf-0-aaaaaa", func(p *resources.Template) {
			p.StopGrace, p.Env = resources.Duration(time.Second), map[string]string{"DEAF": "1"}
			p.Ports = []resources.Port{{Target: 8080, Published: 8082, Protocol: "tcp"}}
		})
		n.get(t, "http://127.0.0.1:8082/")
		begin := time.Now()
		if err := n.Stop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < time.Second || took > deadline {
			t.Errorf("it took %s to stop, want the grace of 1s", took)
		}
		if c := n.ended(t, id, pid); c.ExitCode != 137 {
			t.Errorf("it ended with %d, want 137", c.ExitCode)
		}
	})
	t.Run("listed meanwhile", func(t *testing.T) {
		id, pid := n.run(t, "slow-0-aaaaaa", func(p *resources.Template) {
			p.StopGrace, p.Env = resources.Duration(time.Hour), map[string]string{"DEAF": "1"}
			p.Ports = []resources.Port{{Target: 8080, Published: 8082, Protocol: "tcp"}}
		})
		n.get(t, "http://127.0.0.1:8082/")
		stopped := make(chan error, 1)
		go func() { stopped <- n.Stop(context.Background(), id) }()
		if c, found := n.listed(t, id); !found || !c.Running || c.PID != pid {
			t.Errorf("while it stops it is %+v", c)
		}
		if err := n.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		// Whether it says so or not, the stop that was overtaken has to end,
		// and the process with it.
		awaitProcess(t, pid)
		select {
		case err := <-stopped:
			t.Logf("the stop that the removal overtook: %v", err)
		case <-time.After(deadline):
			t.Error("the stop that the removal overtook goes on")
		}
	})
}

func testReasons(t *testing.T, n node) {
	t.Run("command not found", func(t *testing.T) {
		id := n.create(t, "nocommand-0-aaaaaa", func(p *resources.Template) { p.Entrypoint = []string{"/none"} })
		_, err := n.Start(t.Context(), id)
		wantReason(t, err, resources.ReasonCommandNotFound)
		if c, found := n.listed(t, id); !found || c.Running {
			t.Errorf("after a failed start it is %+v", c)
		}
	})
	t.Run("command not in path", func(t *testing.T) {
		_, err := n.Start(t.Context(), n.create(t, "nopath-0-aaaaaa", func(p *resources.Template) { p.Entrypoint = []string{"none"} }))
		wantReason(t, err, resources.ReasonCommandNotFound)
	})
	t.Run("command is a directory", func(t *testing.T) {
		_, err := n.Start(t.Context(), n.create(t, "directory-0-aaaaaa", func(p *resources.Template) { p.Entrypoint = []string{"/proc"} }))
		wantReason(t, err, resources.ReasonCommandNotFound)
	})
	ports := func(p *resources.Template) {
		p.Ports = []resources.Port{{Target: 8080, Published: 8083, Protocol: "tcp"}}
	}
	t.Run("port taken by a container", func(t *testing.T) {
		n.run(t, "first-0-aaaaaa", ports)
		_, err := n.Start(t.Context(), n.create(t, "second-0-aaaaaa", ports))
		wantReason(t, err, resources.ReasonPortTaken)
	})
	t.Run("port taken by a process", func(t *testing.T) {
		n.service.Listen(t, "0.0.0.0:8083")
		_, err := n.Start(t.Context(), n.create(t, "third-0-aaaaaa", ports))
		wantReason(t, err, resources.ReasonPortTaken)
	})
	t.Run("mount of nothing", func(t *testing.T) {
		id, err := n.Create(t.Context(), n.replica(t, "nomount-0-aaaaaa", func(p *resources.Template) {
			p.HostMounts = []resources.HostMount{{Source: "/none/at/all", Target: "/data"}}
		}))
		if err == nil {
			_, err = n.Start(t.Context(), id)
		}
		wantReason(t, err, resources.ReasonCreateFailed)
	})
}

func testOutOfMemory(t *testing.T, n node) {
	id, pid := n.run(t, "greedy-0-aaaaaa", func(p *resources.Template) {
		p.Resources.Memory, p.Env = 24*resources.MiB, map[string]string{"EAT": "200"}
	})
	// Podman hears of the cause only where all controllers are of cgroup v2, as
	// they are on every node.
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	if c := n.ended(t, id, pid); c.ExitCode != 137 || c.OOMKilled != (err == nil) {
		t.Errorf("out of memory, it is %+v", c)
	}
}

// What a template asks for is what the container has, seen from the inside.
func testTemplate(t *testing.T, n node) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	id, pid := n.run(t, "all-0-aaaaaa", func(p *resources.Template) {
		p.User, p.Hostname, p.WorkingDir = "1000:100", "inside", "/proc"
		p.Resources.CPU = 500
		p.ReadOnly = true
		p.Tmpfs = []resources.Tmpfs{{Path: "/cache", Size: resources.MiB}}
		p.HostMounts = []resources.HostMount{{Source: dir, Target: "/data", ReadOnly: true}}
		p.CapAdd, p.CapDrop = []string{"NET_ADMIN"}, []string{"ALL"}
		p.Ulimits = map[string]resources.Ulimit{"nofile": {Soft: 2000, Hard: 2000}, "nproc": {Soft: 500, Hard: 1000}}
		p.Sysctls = map[string]string{"net.core.somaxconn": "77"}
		p.Devices = []string{"/dev/fuse", "/dev/zero:/dev/nought:r"}
		p.StopSignal = "INT"
		p.Ports = []resources.Port{{Target: 8080, Published: 8084, Protocol: "tcp"}}
	})
	n.get(t, "http://127.0.0.1:8084/")
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(proc, path))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	for path, want := range map[string][]string{
		"status":         {"Uid:\t1000\t1000", "Gid:\t100\t100", "CapBnd:\t0000000000001000"},
		"limits":         {"Max open files            2000                 2000"},
		"root/data/file": {"from the host"},
		"mountinfo":      {" /cache rw,nosuid,nodev", "size=1024k", " /data ro,", " / ro,"},
	} {
		text := read(path)
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s has no %q:\n%s", path, w, text)
			}
		}
	}
	for _, path := range []string{"root/dev/fuse", "root/dev/nought"} {
		if _, err := os.Stat(filepath.Join(proc, path)); err != nil {
			t.Error(err)
		}
	}
	if cwd, err := os.Readlink(filepath.Join(proc, "cwd")); err != nil || cwd != "/proc" {
		t.Errorf("it works in %q, %v", cwd, err)
	}
	if err := n.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if c := n.ended(t, id, pid); c.ExitCode != 0 {
		t.Errorf("asked to stop with SIGINT it ended with %d", c.ExitCode)
	}
}

// Args are added to the image's command where the service has none.
func testArgs(t *testing.T, n node) {
	commit := n.create(t, "base-0-aaaaaa", nil)
	output, err := n.service.Podman(t.Context(), "commit", "--quiet", "--change", `CMD ["-greeting", "from the command"]`, commit, "localhost/with-command:1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	n.run(t, "args-0-aaaaaa", func(p *resources.Template) {
		p.Image, p.Args = "localhost/with-command:1", []string{"-listen", ":81"}
		p.Ports = []resources.Port{{Target: 81, Published: 8085, Protocol: "tcp"}}
	})
	if body := n.get(t, "http://127.0.0.1:8085/"); !strings.HasPrefix(body, "from the command from") {
		t.Errorf("it says %q", body)
	}
}

func testLogs(t *testing.T, n node) {
	id, pid := n.run(t, "logs-0-aaaaaa", func(p *resources.Template) {
		p.Args = []string{"-exit", strings.Repeat("x", 20_000) + "\ny\n\nz"}
	})
	n.ended(t, id, pid)
	for _, lines := range []int{0, 1, 3, 100} {
		logs, err := n.Logs(t.Context(), id, lines)
		if err != nil {
			t.Fatal(err)
		}
		if len(logs) > lines {
			t.Errorf("of %d lines there are %d", lines, len(logs))
		}
		if lines == 1 && !slices.Equal(logs, []string{`z" is not a number`}) && len(logs) != 1 {
			t.Errorf("the last line is %q", logs)
		}
	}
}

func testAbsent(t *testing.T, n node) {
	for name, err := range map[string]error{
		"remove": n.Remove(t.Context(), "none"),
		"stop":   n.Stop(t.Context(), "none"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if logs, err := n.Logs(t.Context(), "none", 5); err != nil || logs != nil {
		t.Errorf("logs are %q, %v", logs, err)
	}
	_, err := n.Start(t.Context(), "none")
	wantReason(t, err, resources.ReasonCreateFailed)
}

func testForeignContainer(t *testing.T, n node) {
	replica := n.replica(t, "foreign-0-aaaaaa", nil)
	output, err := n.service.Podman(t.Context(), "create", "--name", containerName(replica.ID), n.image).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	_, err = n.Create(t.Context(), replica)
	wantReason(t, err, resources.ReasonCreateFailed)
	if all, err := n.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("listed are %+v, %v; want no foreign container", all, err)
	}
}

// A power loss between the two halves of Podman's create leaves a name in the
// storage that Podman knows nothing of.
func testLeftover(t *testing.T, n node) {
	replica := n.replica(t, "leftover-0-aaaaaa", nil)
	if _, err := n.Create(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	n.service.Forget(t)
	if _, err := n.Create(t.Context(), replica); err != nil {
		t.Error(err)
	}
}

func testExits(t *testing.T, n node) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	exits, err := n.Exits(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := func(want string) {
		t.Helper()
		for {
			select {
			case id := <-exits:
				if id == want {
					return
				}
			case <-ctx.Done():
				t.Fatalf("no exit of %s was told", short(want))
			}
		}
	}
	id, _ := n.run(t, "exits-0-aaaaaa", func(p *resources.Template) { p.Env = map[string]string{"EXIT": "0"} })
	next(id)

	survivor, pid := n.run(t, "survivor-0-aaaaaa", nil)
	n.service.Down(t)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.service.Up(t)
	next(survivor)

	cancel()
	for range exits { // until it is closed
	}
}

// A replica with addresses runs in the namespace that was made for it, asks the
// node for names, and is told with its address on the cluster's networks.
func testNetworkNamespace(t *testing.T, n node) {
	r := n.replica(t, "joined-0-aaaaaa", nil)
	r.Addresses = []resources.NetworkAddress{{Network: "default", Address: netip.MustParseAddr("10.40.32.2")}}
	namespace := string(r.ID)
	if out, err := exec.Command("ip", "netns", "add", namespace).CombinedOutput(); err != nil {
		t.Fatalf("make a network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", namespace).CombinedOutput(); err != nil {
			t.Errorf("delete the network namespace: %v: %s", err, out)
		}
	})
	n.Namespaces = "/run/netns"
	defer func() { n.Namespaces = "" }()
	id, err := n.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := n.Start(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var want, got unix.Stat_t
	if err := errors.Join(unix.Stat(filepath.Join("/run/netns", namespace), &want), unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &got)); err != nil {
		t.Fatal(err)
	}
	if want.Ino != got.Ino {
		t.Errorf("the container runs in network namespace %d, want %d", got.Ino, want.Ino)
	}
	names, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/resolv.conf", pid))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("nameserver 169.254.53.53\n", string(names)); diff != "" {
		t.Errorf("resolv.conf of the container (-want +got):\n%s", diff)
	}
	hosts, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/hosts", pid))
	if err != nil || !regexp.MustCompile(`(?m)^10\.40\.32\.2\s+joined-0-aaaaaa$`).Match(hosts) {
		t.Errorf("the container does not know its own name: %v\n%s", err, hosts)
	}
	all, err := n.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(c resources.Container) bool { return c.ID == id })
	if i < 0 || all[i].Address != "10.40.32.2" {
		t.Errorf("the listing tells another address: %+v", all)
	}
}

// Where the monitor of a container that is to stop is killed, Podman waits for its
// end for ever. The listing doesn't, hides none of the others, and the container can
// be removed.
func testMonitorKilled(t *testing.T, n node) {
	id, pid := n.run(t, "monitor-0-aaaaaa", func(p *resources.Template) {
		p.Env, p.StopGrace = map[string]string{"DEAF": "1"}, resources.Duration(time.Minute)
	})
	other, _ := n.run(t, "monitor-1-aaaaaa", nil)
	stopping, end := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { n.Stop(stopping, id); close(stopped) }() //nolint:errcheck // it can't come to an end
	defer func() { end(); <-stopped }()
	for deadline := time.Now().Add(deadline); ; {
		out, err := n.service.Podman(t.Context(), "inspect", "--format", "{{.State.Status}}", id).Output()
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(out)) == "stopping" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Podman does not begin to stop it: %s", out)
		}
	}
	for _, monitor := range n.service.Conmons(t) {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", monitor)); err == nil && strings.Contains(string(line), id) {
			if err := unix.Kill(monitor, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitProcess(t, pid)
	all, err := n.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []resources.Container{{ID: id, Damaged: true}, {ID: other, Running: true}} {
		i := slices.IndexFunc(all, func(c resources.Container) bool { return c.ID == want.ID })
		if i < 0 || all[i].Damaged != want.Damaged || all[i].Running != want.Running {
			t.Errorf("listed as %+v, want %+v", all, want)
		}
	}
	end()
	if err := n.Remove(t.Context(), id); err != nil {
		t.Errorf("remove it: %v", err)
	}
}
