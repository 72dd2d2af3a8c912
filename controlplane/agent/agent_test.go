package agent

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

// fakeRuntime is a runtime whose containers are values. Its clock is the
// bubble's.
type fakeRuntime struct {
	taking sync.Mutex         // guards the containers and the calls, while steps run
	pruned atomic.Bool        // the image is there no more
	hang   atomic.Bool        // List answers with the end of its context only
	pulled func(image string) // called with each pull; may be nil

	containers map[string]*resources.Container
	calls      []string
	made       resources.Replica // as the last one was made
	startErr   error
	image      string // ID of the image of containers
	exits      chan string

	mu    sync.Mutex     // guards all below
	codes map[string]int // what commands exit with
	slow  bool           // they end with their context only
}

func newFake() *fakeRuntime {
	return &fakeRuntime{containers: map[string]*resources.Container{}, exits: make(chan string, 10), codes: map[string]int{}}
}

func (f *fakeRuntime) say(call string) {
	f.taking.Lock()
	defer f.taking.Unlock()
	f.calls = append(f.calls, call)
}

func (f *fakeRuntime) List(ctx context.Context) ([]resources.Container, error) {
	if f.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	f.taking.Lock()
	defer f.taking.Unlock()
	var all []resources.Container
	for _, c := range f.containers {
		all = append(all, *c)
	}
	return all, nil
}

func (f *fakeRuntime) Pull(_ context.Context, image, _, _ string, _ ...resources.Login) error {
	f.say("pull")
	if f.pulled != nil {
		f.pulled(image)
	}
	f.pruned.Store(false)
	return nil
}

func (f *fakeRuntime) Create(_ context.Context, r resources.Replica) (string, error) {
	f.say("create")
	if f.pruned.Load() {
		return "", &resources.Failure{Reason: resources.ReasonImagePull, Err: errors.New("image not known")}
	}
	f.taking.Lock()
	defer f.taking.Unlock()
	f.made = r
	f.containers[string(r.ID)] = &resources.Container{ID: string(r.ID), Replica: r.ID, Image: f.image, Created: true}
	return string(r.ID), nil
}

func (f *fakeRuntime) Start(_ context.Context, id string) (int, error) {
	f.say("start")
	if f.startErr != nil {
		return 0, f.startErr
	}
	f.taking.Lock()
	defer f.taking.Unlock()
	c := f.containers[id]
	c.Created, c.Running, c.StartedAt = false, true, time.Now()
	return 0, nil
}

func (f *fakeRuntime) Stop(_ context.Context, id string) error {
	f.say("stop")
	f.end(id, 0)
	return nil
}

func (f *fakeRuntime) Exec(ctx context.Context, _ string, command []string) (int, string, error) {
	f.mu.Lock()
	code, slow := f.codes[command[0]], f.slow
	f.mu.Unlock()
	if slow {
		<-ctx.Done()
		return 0, "", ctx.Err()
	}
	return code, "as asked\n", nil
}

// answer sets what a command exits with from now on.
func (f *fakeRuntime) answer(command string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.codes[command] = code
}

func (f *fakeRuntime) Remove(_ context.Context, id string) error {
	f.say("remove")
	f.taking.Lock()
	defer f.taking.Unlock()
	delete(f.containers, id)
	return nil
}

func (f *fakeRuntime) Logs(context.Context, string, int) ([]string, error) {
	return []string{"last words"}, nil
}

func (f *fakeRuntime) Exits(context.Context) (<-chan string, error) { return f.exits, nil }
func (f *fakeRuntime) Version(context.Context) (string, error)      { return "5", nil }

func (f *fakeRuntime) end(id string, code int) {
	f.taking.Lock()
	c := f.containers[id]
	c.Running, c.ExitCode, c.FinishedAt = false, code, time.Now()
	f.taking.Unlock()
	f.exits <- id
}

func replica(restart string) resources.Replica {
	return resources.Replica{ID: "web-0-x", Service: "web", Wanted: true, Template: resources.Template{Restart: restart}}
}

// run starts a loop in a bubble; the loop ends with the bubble.
func run(t *testing.T, f *fakeRuntime, assigned ...resources.Replica) *loop {
	l := newLoop(f, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	l.assign(resources.Assignment{Replicas: assigned})
	synctest.Wait()
	return l
}

func states(l *loop) []resources.ReplicaState {
	var all []resources.ReplicaState
	for _, s := range l.statuses() {
		all = append(all, s.State)
	}
	return all
}

func expect(t *testing.T, l *loop, want ...resources.ReplicaState) {
	t.Helper()
	if diff := cmp.Diff(want, states(l)); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// advance lets the bubble's clock run.
func advance(d time.Duration) {
	time.Sleep(d) // virtual time
	synctest.Wait()
}

func TestAReplicaIsStartedAndStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := run(t, f, replica(resources.RestartAlways))
		for _, notReady := range []bool{true, false} {
			expect(t, l, resources.ReplicaRunning)
			if got := l.statuses()[0].NotReady; got != notReady {
				t.Errorf("not ready: %v", got)
			}
			advance(minReady)
		}
		r := replica(resources.RestartAlways)
		r.Wanted = false
		l.assign(resources.Assignment{Replicas: []resources.Replica{r}})
		advance(time.Millisecond)
		expect(t, l, resources.ReplicaGone)
		if diff := cmp.Diff([]string{"pull", "create", "start", "stop", "remove"}, f.calls); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	})
}

func TestACrashIsMendedAtOnceThenWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := run(t, f, replica(resources.RestartAlways))
		advance(time.Second)
		starts := func() (n int) {
			for _, call := range f.calls {
				if call == "start" {
					n++
				}
			}
			return n
		}
		f.end("web-0-x", 3)
		advance(time.Millisecond)
		if starts() != 2 {
			t.Fatalf("after the first crash it was started %d times, want 2, at once", starts())
		}
		f.end("web-0-x", 3)
		advance(time.Second - time.Millisecond)
		expect(t, l, resources.ReplicaBackoff)
		if s := l.statuses()[0]; *s.ExitCode != 3 || s.Reason != resources.ReasonCrashed || s.LogTail[0] != "last words" {
			t.Errorf("the status does not tell why: %+v", s)
		}
		advance(time.Millisecond)
		if starts() != 3 {
			t.Fatalf("a second after the second crash it was started %d times, want 3", starts())
		}
		advance(minReady)
		expect(t, l, resources.ReplicaRunning)
		if s := l.statuses()[0]; s.Restarts != 2 || s.Reason != "" {
			t.Errorf("status once it runs: %+v", s)
		}
	})
}

func TestTheRestartPolicy(t *testing.T) {
	for _, c := range []struct {
		policy string
		code   int
		want   resources.ReplicaState
	}{
		{resources.RestartNever, 0, resources.ReplicaExited},
		{resources.RestartNever, 1, resources.ReplicaExited},
		{resources.RestartOnFailure, 0, resources.ReplicaExited},
		{resources.RestartOnFailure, 1, resources.ReplicaRunning},
		{resources.RestartAlways, 0, resources.ReplicaRunning},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			l := run(t, f, replica(c.policy))
			f.end("web-0-x", c.code)
			advance(0)
			expect(t, l, c.want)
		})
	}
}

func TestAStartThatFailsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.startErr = &resources.Failure{Reason: resources.ReasonCommandNotFound, Err: errors.New("no such file")}
		l := run(t, f, replica(resources.RestartAlways))
		advance(10 * time.Second)
		s := l.statuses()[0]
		if s.State != resources.ReplicaBackoff || s.Reason != resources.ReasonCommandNotFound || s.Failures < 3 {
			t.Errorf("status: %+v", s)
		}
	})
}

func TestWhatIsNotAssignedIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.containers["stray"] = &resources.Container{ID: "stray", Replica: "stray", Running: true}
		l := run(t, f)
		advance(time.Millisecond)
		if len(f.containers) != 0 {
			t.Errorf("left: %v", f.containers)
		}
		if left, _ := l.left(); left != 0 {
			t.Errorf("the loop counts %d", left)
		}
	})
}

// Until somebody says what the node has to run, nothing is removed.
func TestNothingIsRemovedBeforeAssignmentsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.containers["web-0-x"] = &resources.Container{ID: "web-0-x", Replica: "web-0-x", Running: true, StartedAt: time.Now()}
		l := newLoop(f, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.run(ctx) }()
		advance(time.Minute)
		if len(f.calls) != 0 {
			t.Errorf("steps: %v", f.calls)
		}
		l.assign(resources.Assignment{Replicas: []resources.Replica{replica(resources.RestartAlways)}})
		advance(time.Minute)
		expect(t, l, resources.ReplicaRunning)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A Podman that does not answer for a while does not stop the loop.
func TestAListingThatTimesOutIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.hang.Store(true)
		l := run(t, f, replica(resources.RestartAlways))
		advance(5 * listTimeout)
		f.hang.Store(false)
		advance(2 * listTimeout)
		expect(t, l, resources.ReplicaRunning)
	})
}

func TestAwaitExit(t *testing.T) {
	process := exec.Command("sleep", "1000")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan error, 2)
	go func() { seen <- awaitExit(ctx, process.Process.Pid) }()
	cancel()
	if err := <-seen; err == nil {
		t.Error("a watch that was given up says that the process has ended")
	}
	go func() { seen <- awaitExit(t.Context(), process.Process.Pid) }()
	process.Process.Kill() //nolint:errcheck // it runs
	process.Wait()         //nolint:errcheck // it was killed
	if err := <-seen; err != nil {
		t.Error(err)
	}
	if err := awaitExit(t.Context(), process.Process.Pid); err != nil {
		t.Errorf("a process that has ended already: %v", err)
	}
}

// A container that was damaged by a power loss is made anew.
func TestADamagedContainerIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.containers["web-0-x"] = &resources.Container{ID: "web-0-x", Replica: "web-0-x", Damaged: true}
		l := run(t, f, replica(resources.RestartAlways))
		advance(minReady)
		expect(t, l, resources.ReplicaRunning)
		if diff := cmp.Diff([]string{"remove", "pull", "create", "start"}, f.calls); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	})
}

// An image that was removed behind the agent's back is pulled again.
func TestAPrunedImageIsPulledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := run(t, f, replica(resources.RestartAlways))
		advance(minReady)
		f.pruned.Store(true)
		f.Remove(t.Context(), "web-0-x") //nolint:errcheck // a fake
		advance(lookAgain + 2*minReady)
		expect(t, l, resources.ReplicaRunning)
	})
}
