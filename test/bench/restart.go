package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/archive"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

const (
	restartTurns    = 5
	restartPatience = 5 * time.Minute
	// listening is what the program of the test image says first.
	listening = "listening on"
)

// overhead is how much longer than Podman alone skerry may take until a program
// runs.
const overhead = 150 * time.Millisecond

// containerRestart measures from the end of a container's process until its
// program runs again, under the agent of `skerry dev`, against a bare
// `podman start` of a container like it. Both are over when the program has
// said its first word. Each container is killed once: the agent starts one that
// fails again and again later and later.
func containerRestart(ctx context.Context, notes io.Writer) (comparison, error) {
	ctx, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	c := comparison{more: overhead.Seconds()}
	err := withTB(ctx, func(t *tb) { //nolint:contextcheck // what was started is removed whatever happens
		d := startDev(t)
		image := d.push(t)
		replicas := d.serve(t, image)
		for turn, id := range replicas {
			against := d.podmanStart(t, d.create(t, image))
			ours := d.kill(t, id)
			c.add(ours, against)
			fmt.Fprintf(notes, "  %d: kill to running %.3f s, podman start %.3f s\n", turn+1, ours.Seconds(), against.Seconds())
		}
	})
	return c, err
}

// containerCreate measures from the call that asks for a service of one replica
// until the control plane says that it runs, against `podman run --detach` of a
// container like it. Both have the image there.
func containerCreate(ctx context.Context, notes io.Writer) (comparison, error) {
	ctx, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	c := comparison{more: overhead.Seconds()}
	err := withTB(ctx, func(t *tb) { //nolint:contextcheck // what was started is removed whatever happens
		d := startDev(t)
		image := d.push(t)
		d.up(t, "first", image, 1) // which pulls the image
		for turn := range restartTurns {
			begin := time.Now()
			d.run(t, slices.Concat([]string{"run", "--detach"}, limits, []string{image})...)
			against := time.Since(begin)
			begin = time.Now()
			d.up(t, fmt.Sprintf("web%d", turn), image, 1)
			ours := time.Since(begin)
			c.add(ours, against)
			fmt.Fprintf(notes, "  %d: replica %.3f s, podman run %.3f s\n", turn+1, ours.Seconds(), against.Seconds())
		}
	})
	return c, err
}

// dev is a node without a VM.
type dev struct {
	*testbed.Host
	server *client.Server
}

// startDev runs `skerry dev` with a cluster.
func startDev(t *tb) *dev {
	program, err := filepath.Abs("build/bin/skerry")
	t.must("find the program", err)
	h := testbed.NewHost(t, program, "--cluster", "bench")
	h.Start(t)
	return &dev{h, testbed.Control(t, h)}
}

// push puts the test image into the cluster's registry, and gives its reference.
func (d *dev) push(t *tb) string {
	path := filepath.Join(d.Dir, "web.tar")
	t.must("build the image", images.Write(path, "1", runtime.GOARCH))
	opened, err := archive.Open(path)
	t.must("open the image", err)
	defer opened.Close() //nolint:errcheck // it was read
	t.must("push the image", opened.Push(t.Context(), "web", d.server.Registry()))
	return resources.ImageReference("web", opened.Digest())
}

// serve runs a service of as many replicas as there are turns, and gives the
// IDs of their containers.
func (d *dev) serve(t *tb, image string) []string {
	d.up(t, "web", image, restartTurns)
	return strings.Fields(d.run(t, "ps", "--no-trunc", "--format", "{{.ID}}", "--filter", "label=io.skerry.service=web"))
}

// up returns once all replicas of a new service run.
func (d *dev) up(t *tb, name, image string, replicas int) {
	service := resources.Service{Name: name, Replicas: replicas, Template: resources.Template{Image: image}}
	service.SetDefaults()
	_, err := d.server.PutService(t.Context(), service)
	t.must("run a service", err)
	t.must("wait for the service", d.server.WatchService(t.Context(), service.Name, func(s resources.ServiceStatus) (bool, error) {
		if s.State == resources.ServiceFailed {
			return false, errors.New(s.Message)
		}
		running := 0
		for _, r := range s.Replicas {
			if r.Status.State == resources.ReplicaRunning {
				running++
			}
		}
		return running < replicas, nil
	}))
}

// limits are those of a service's container by default, for podman.
var limits = []string{
	"--pull", "never", "--network", "bridge", "--log-driver", "k8s-file",
	"--memory", fmt.Sprint(int64(resources.DefaultMemory)), "--cpus", fmt.Sprint(float64(resources.DefaultCPU) / 1000),
}

// create makes a container like those of the service, which never ran.
func (d *dev) create(t *tb, image string) string {
	return strings.TrimSpace(d.run(t, slices.Concat([]string{"create"}, limits, []string{image})...))
}

// podmanStart starts a container, and says how long it took to run.
func (d *dev) podmanStart(t *tb, id string) time.Duration {
	log := d.inspect(t, id).LogPath
	// Podman makes the log; where there is one before, there is something to watch.
	t.must("make the log", os.WriteFile(log, nil, 0o600))
	begin := time.Now()
	up := d.firstWord(t, log, 0)
	d.run(t, "start", id)
	return (<-up).Sub(begin)
}

// kill kills a container, and says how long it took to run again.
func (d *dev) kill(t *tb, id string) time.Duration {
	c := d.inspect(t, id)
	said, err := os.ReadFile(c.LogPath)
	t.must("read the log", err)
	up := d.firstWord(t, c.LogPath, strings.Count(string(said), listening))
	begin := time.Now()
	t.must("kill the container", unix.Kill(c.State.Pid, unix.SIGKILL))
	return (<-up).Sub(begin)
}

type container struct {
	LogPath string `json:"-"`
	State   struct{ Pid int }
	// HostConfig says where the log is.
	HostConfig struct{ LogConfig struct{ Path string } }
}

func (d *dev) inspect(t *tb, id string) container {
	var all []container
	t.must("read podman's answer", json.Unmarshal([]byte(d.run(t, "inspect", "--type", "container", id)), &all))
	if len(all) != 1 {
		t.Fatalf("podman knows %d containers %s", len(all), id)
	}
	all[0].LogPath = all[0].HostConfig.LogConfig.Path
	return all[0]
}

func (d *dev) run(t *tb, args ...string) string {
	out, err := d.Podman.Podman(t.Context(), args...).Output()
	t.must("podman "+args[0], err)
	return string(out)
}

// firstWord gives the time at which the program behind the log has begun once
// more than before.
func (d *dev) firstWord(t *tb, log string, before int) <-chan time.Time {
	up := make(chan time.Time, 1)
	go func() {
		err := awaitText(t.Context(), log, listening, before+1)
		if err != nil {
			t.fail(err)
		}
		up <- time.Now()
	}()
	return up
}
