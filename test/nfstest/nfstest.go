// Package nfstest gives a test a real NFS server, in a network namespace of its
// own: NFS-Ganesha, which needs nothing of the kernel, unpacked from Debian's
// packages by test/images/debian. It speaks NFS 4, and trusts whoever asks.
package nfstest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Server is a running NFS server.
type Server struct {
	// Dir is what it serves as Export, on this machine.
	Dir string
}

// Export is the path that clients mount.
const Export = "/export"

// startTimeout bounds the start, which takes less than a second.
const startTimeout = time.Minute

// Without D-Bus it takes no orders, without rpcbind it serves no NFS 3, and
// without a period of grace its clients need not wait.
const configuration = `
NFS_CORE_PARAM { Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 { Graceless = true; RecoveryBackend = fs; Only_Numeric_Owners = true; }
EXPORT {
	Export_Id = 1; Path = ` + Export + `; Pseudo = ` + Export + `; Protocols = 4;
	Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
	FSAL { Name = VFS; }
}
`

// run mounts what the server needs below its root, which is $1, and becomes it.
const run = `mount --bind /proc "$1/proc" && mount --bind /dev "$1/dev" && mount --bind "$1` + Export + `" "$1` + Export + `" &&
exec chroot "$1" /usr/bin/ganesha.nfsd -F -L /dev/stderr -f /etc/ganesha.conf -p /run/ganesha.pid -N NIV_WARN`

// Start starts a server in the network namespace of that path, and returns once
// it listens at the address there. It goes with the test.
func Start(t testing.TB, namespace string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs root; left out by -short")
	}
	root := t.TempDir()
	packed, err := filepath.Abs("../../build/test/ganesha.root.tar")
	if err == nil {
		_, err = os.Stat(packed)
	}
	if err != nil {
		t.Fatalf("the NFS server is missing: run make test-images: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", root, "--exclude=./dev/*", "-xf", packed).CombinedOutput(); err != nil {
		t.Fatalf("unpack the NFS server: %v\n%s", err, out)
	}
	for _, dir := range []string{Export, "/proc", "/dev", "/run", "/var/run/ganesha", "/var/lib/nfs/ganesha"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "ganesha.conf"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/mounts", filepath.Join(root, "etc", "mtab")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	s := &Server{Dir: filepath.Join(root, Export)}
	// Its mounts are in a namespace of their own, and end with it.
	command := exec.Command("nsenter", "--net="+namespace, "unshare", "--mount", "sh", "-c", run, "sh", root)
	var log bytes.Buffer
	command.Stdout, command.Stderr = &log, &log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// It ends with the thread that has started it, which this goroutine keeps.
		runtime.LockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			command.Wait() //nolint:errcheck // it is killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill() //nolint:errcheck // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("the NFS server said:\n%s", log.String())
		}
	})
	if err := listens(t.Context(), ended, dial); err != nil {
		t.Fatalf("start the NFS server: %v", err)
	}
	return s
}

// listens returns once the server takes connections.
func listens(ctx context.Context, ended <-chan struct{}, dial func(ctx context.Context, network, address string) (net.Conn, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		connected, err := dial(ctx, "tcp", "127.0.0.1:2049")
		if err == nil {
			return connected.Close()
		}
		select {
		case <-ended:
			return fmt.Errorf("it has ended; the last call says: %w", err)
		case <-ctx.Done():
			return err
		case <-look.C:
		}
	}
}
