// Package podmantest gives a test a Podman of its own: a real service, with
// storage, state, networks and a network namespace that nothing else uses, so
// that many run side by side and none touches the machine's.
//
// It needs root, and the Debian packages podman, runc, netavark,
// aardvark-dns, conmon and iproute2. It runs runc, since crun refuses the
// hybrid cgroups of build machines, and limits that a machine without
// CAP_SYS_RESOURCE accepts. Everything is removed with the test, containers
// first.
package podmantest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Service is a running Podman service.
type Service struct {
	// Socket is its URI, unix:///...
	Socket string
	// Namespace is the network namespace that its ports are published in, and
	// that it pulls images from: a name of `ip netns`.
	Namespace string

	dir     string
	process *exec.Cmd
	exited  chan struct{}
}

// Dir is the directory of all that this Podman keeps.
func (s *Service) Dir() string { return s.dir }

// RegistriesDir is the directory of more files about registries, which this Podman
// reads beside its own.
func (s *Service) RegistriesDir() string {
	return filepath.Join(s.dir, ".config", "containers", "registries.conf.d")
}

// startTimeout bounds the start of the service, which takes about 0.3 s on an
// idle machine.
const startTimeout = time.Minute

// Start starts a Podman service for the test and gives the URI of its socket.
// It skips a -short test, and fails one that can't have a Podman.
func Start(t testing.TB) (socket string) {
	t.Helper()
	return StartService(t).Socket
}

// StartService is Start for tests that look behind the socket.
func StartService(t testing.TB) *Service {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Podman and root; left out by -short")
	}
	preflight(t)
	dir, err := os.MkdirTemp("", "podman-") //nolint:usetesting // the name of t.TempDir is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{dir: dir, Namespace: filepath.Base(dir), Socket: "unix://" + dir + "/podman.sock"}
	t.Cleanup(func() { s.remove(t) })
	s.configure(t)
	ip(t, "netns", "add", s.Namespace)
	ip(t, "-n", s.Namespace, "link", "set", "lo", "up")
	s.Up(t)
	return s
}

func preflight(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root for a Podman of its own; run the tests with sudo, or with -short to leave this one out")
	}
	for _, program := range []string{"podman", "runc", "conmon", "ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: apt-get install podman runc netavark aardvark-dns conmon iproute2 util-linux", program)
		}
	}
}

// configure writes the configuration that keeps this Podman to its directory.
func (s *Service) configure(t testing.TB) {
	t.Helper()
	for name, text := range map[string]string{
		// What the command line says too is here for when Podman reads it again.
		"containers.conf": `[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
volume_path = "` + filepath.Join(s.dir, "volumes") + `"
tmp_dir = "` + filepath.Join(s.dir, "tmp") + `"
static_dir = "` + filepath.Join(s.dir, "root", "libpod") + `"
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
# Locks in files of its own; those in shared memory are the machine's.
lock_type = "file"
[network]
default_subnet = "10.88.0.0/16"
network_config_dir = "` + filepath.Join(s.dir, "net") + `"
`,
		"registries.conf": `[[registry]]
location = "127.0.0.1"
insecure = true
[[registry]]
location = "127.0.0.1:5000"
insecure = true
[[registry]]
location = "127.0.0.1:5055"
insecure = true
[[registry]]
prefix = "registry.skerry.internal"
location = "127.0.0.1:5055"
insecure = true
`,
		"auth.json":    `{}`,
		"storage.conf": "[storage]\ndriver = \"overlay\"\nrunroot = \"" + filepath.Join(s.dir, "run") + "\"\ngraphroot = \"" + filepath.Join(s.dir, "root") + "\"\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Podman gives the command that runs podman with args on this service's
// storage and in its namespace.
func (s *Service) Podman(ctx context.Context, args ...string) *exec.Cmd {
	in := func(name string) string { return filepath.Join(s.dir, name) }
	// Not `ip netns exec`: it hides the mounts of cgroups.
	all := append([]string{
		"--net=/run/netns/" + s.Namespace, "podman", "--root", in("root"), "--runroot", in("run"),
		"--tmpdir", in("tmp"), "--network-config-dir", in("net"), "--volumepath", in("volumes"),
	}, args...)
	c := exec.CommandContext(ctx, "nsenter", all...)
	c.Env = append(os.Environ(),
		"CONTAINERS_CONF="+in("containers.conf"), "CONTAINERS_REGISTRIES_CONF="+in("registries.conf"),
		"CONTAINERS_STORAGE_CONF="+in("storage.conf"),
		"REGISTRY_AUTH_FILE="+in("auth.json"), "TMPDIR="+s.dir, "HOME="+s.dir)
	return c
}

// Up starts the service, after Down, and returns once it answers.
func (s *Service) Up(t testing.TB) {
	t.Helper()
	var output bytes.Buffer
	s.process = s.Podman(context.Background(), "system", "service", "--time", "0", s.Socket)
	s.process.Stdout, s.process.Stderr = &output, &output
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	s.exited = make(chan struct{})
	process, exited := s.process, s.exited
	go func() {
		_ = process.Wait()
		close(exited)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := s.awaitAnswer(ctx); err != nil {
		t.Fatalf("start Podman: %v\n%s", err, output.String())
	}
}

// AddVolumePlugin lets Podman know a volume plugin by its socket, and restarts the
// service.
func (s *Service) AddVolumePlugin(t testing.TB, name, socket string) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(s.dir, "containers.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(file, "[engine.volume_plugins]\n%s = %q\n", name, socket)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	s.Down(t)
	s.Up(t)
}

// Down stops the service; its containers run on.
func (s *Service) Down(t testing.TB) {
	t.Helper()
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.exited
	s.process = nil
	if err := os.Remove(strings.TrimPrefix(s.Socket, "unix://")); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// Forget makes Podman lose what it knows of all containers, while its storage
// keeps them: what a power loss in the middle of a create or a removal leaves.
func (s *Service) Forget(t testing.TB) {
	t.Helper()
	s.Down(t)
	// Podman 4 has the first of these, Podman 5 the second.
	for _, path := range []string{"root/libpod/bolt_state.db", "root/db.sql"} {
		if err := os.RemoveAll(filepath.Join(s.dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	s.Up(t)
}

// Load puts the image of a docker or OCI archive into the service's storage,
// and gives its reference.
func (s *Service) Load(t testing.TB, archive string) string {
	t.Helper()
	output, err := s.Podman(t.Context(), "load", "--quiet", "--input", archive).CombinedOutput()
	if err != nil {
		t.Fatalf("load %s: %v\n%s", archive, err, output)
	}
	_, reference, found := strings.Cut(strings.TrimSpace(string(output)), "Loaded image: ")
	if !found {
		t.Fatalf("load %s: podman says %q", archive, output)
	}
	return reference
}

// remove takes away all that Start made.
func (s *Service) remove(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if output, err := s.Podman(ctx, "rm", "--all", "--force", "--time", "0").CombinedOutput(); err != nil {
		t.Errorf("remove the containers: %v\n%s", err, output)
	}
	s.Down(t)
	// Nothing may mount the storage again: a monitor has Podman clean up behind its
	// container, that of an exec session minutes later.
	for _, program := range []string{"conmon", "podman"} {
		for _, pid := range s.processes(t, program) {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				t.Errorf("end process %d: %v", pid, err)
			}
			if !Ended(pid, startTimeout) {
				t.Errorf("process %d of Podman's does not end", pid)
			}
		}
	}
	s.unmount(ctx, t)
	s.removeGroups()
	if output, err := exec.CommandContext(ctx, "ip", "netns", "delete", s.Namespace).CombinedOutput(); err != nil {
		t.Errorf("remove the network namespace: %v\n%s", err, output)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Error(err)
	}
}

// unmount undoes what Podman leaves mounted in its directory: its storage.
func (s *Service) unmount(ctx context.Context, t testing.TB) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
		return
	}
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) { // the innermost come last
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasPrefix(fields[4], s.dir+"/") {
			continue
		}
		if output, err := exec.CommandContext(ctx, "umount", "--lazy", fields[4]).CombinedOutput(); err != nil {
			t.Errorf("unmount %s: %v\n%s", fields[4], err, output)
		}
	}
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("ip %s: %w\n%s", strings.Join(args, " "), err, output))
	}
}
