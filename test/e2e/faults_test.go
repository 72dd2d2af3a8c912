package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// patience bounds each step, which takes a third of it where a node has to
// count as lost in a rollout.
const patience = 2 * time.Minute

// faulty is a cluster of three servers and three workers that things happen to.
type faulty struct {
	*testbed.Bed
	control *client.Server
	// gone are hosts that nobody asks at present.
	gone  map[*testbed.Host]bool
	notes int
	// greeting is of the revision that was acknowledged last.
	greeting string
	// image is that of the service.
	image string
}

// What goes wrong in a cluster, in the middle of a rollout: whatever it is, nothing
// that was acknowledged is lost, and in the end each replica runs once, of the
// latest revision, where it was placed.
func TestFaults(t *testing.T) {
	t.Parallel()
	bed := testbed.New(t, skerry(), 6)
	for _, h := range bed.Hosts[:3] {
		h.End(os.Interrupt)
		h.SmallDisk(t, resources.GiB)
	}
	testbed.Start(t, bed.Hosts[:3]...)
	tf := NewTerraform(t, bin, testbed.Configuration(bed.Hosts[:3], bed.Hosts[3:], images.Archive(t), `
  replicas   = 6
  resources  = { cpu = "50m", memory = "32MiB" }
  stop_grace = "1s"
  update     = { max_unavailable = 2 }`))
	tf.Apply(t)
	f := &faulty{Bed: bed, control: testbed.Control(t, bed.Hosts[:3]...), gone: map[*testbed.Host]bool{}}
	web, err := f.control.Service(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	f.image = web.Service.Image
	f.settles(t)
	for _, fault := range []struct {
		name string
		// quiet faults need to know what runs where: no rollout is under way.
		quiet bool
		test  func(*testing.T)
	}{
		{"an agent is killed, and nothing else happens", true, f.agentKilled},
		{"all agents are killed", false, f.agentsKilled},
		{"a server is killed", false, f.serverKilled},
		{"the leader is killed", false, f.leaderKilled},
		{"the leader is killed, and stays away", false, f.leaderAway},
		{"the leader stalls for a minute", false, f.leaderStalls},
		{"Podman is killed", false, f.podmanKilled},
		{"a monitor of a container is killed", false, f.conmonKilled},
		{"a node loses power", false, f.powerCut},
		{"the leader and a worker lose power", false, f.powerCutOfTwo},
		{"most nodes lose power", false, f.powerCutOfMost},
		{"a minority is cut off", false, f.minorityCutOff},
		{"the leader is cut off", false, f.leaderCutOff},
		{"most nodes are cut off, and nothing else happens", true, f.mostCutOff},
		{"most servers are cut off", false, f.mostServersCutOff},
		{"a server's disk is full", false, f.diskFull},
		{"the disks of most servers are full", false, f.disksFull},
	} {
		t.Run(fault.name, func(t *testing.T) {
			f.note(t)
			if !fault.quiet {
				f.rollOut(t, fault.name)
			}
			fault.test(t)
			f.settles(t)
		})
		if t.Failed() {
			return // what comes next would only fail because of this
		}
	}
	tf.Destroy(t)
}

// note writes something that has to be there afterwards.
func (f *faulty) note(t *testing.T) {
	t.Helper()
	if err := f.tryNote(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
}

func (f *faulty) tryNote(ctx context.Context, more string) error {
	note := resources.Service{Name: "note", Template: resources.Template{Image: f.image}}
	note.Env = map[string]string{"COUNT": strconv.Itoa(f.notes + 1), "MORE": more}
	note.SetDefaults()
	_, err := f.control.PutService(ctx, note)
	if err == nil {
		f.notes++
	}
	return err
}

// rollOut begins to replace all replicas of web, and returns in the middle of it:
// one runs anew, and others have yet to.
func (f *faulty) rollOut(t *testing.T, greeting string) {
	t.Helper()
	status, err := f.control.Service(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	web := status.Service
	web.Env = map[string]string{"GREETING": greeting}
	if status, err = f.control.PutService(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	f.greeting = greeting
	revision := status.Revision
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = f.control.WatchService(ctx, "web", func(s resources.ServiceStatus) (bool, error) {
		if s.Revision == revision && s.State != resources.ServiceRolling {
			return false, fmt.Errorf("the rollout is over before anything went wrong: %s", s.State)
		}
		return s.Revision < revision || s.Ready == 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// settles returns once all is as it was acknowledged, and the replicas run, each
// once and nothing else beside them.
func (f *faulty) settles(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		err := f.settled(ctx, t)
		if err == nil {
			t.Logf("settled after %s", time.Since(began).Round(100*time.Millisecond))
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not settled after %s: %v", patience, err)
		case <-look.C:
		}
	}
}

func (f *faulty) settled(ctx context.Context, t *testing.T) error {
	t.Helper()
	services, err := f.control.Services(ctx)
	if err != nil {
		return err
	}
	want := map[resources.NodeID][]string{}
	for _, s := range services {
		if s.Service.Name == "note" {
			// One that was refused may be written after all.
			if got, err := strconv.Atoi(s.Service.Env["COUNT"]); err != nil || got < f.notes {
				t.Fatalf("note %d was acknowledged, and there is %q", f.notes, s.Service.Env["COUNT"])
			}
			continue
		}
		// What is on a lost node stays listed until somebody knows what became of it.
		known := slices.DeleteFunc(s.Replicas, func(r resources.ReplicaSummary) bool {
			return r.Status.State == resources.ReplicaLost && f.goneNode(t, r.Node)
		})
		if got := s.Service.Env["GREETING"]; s.Service.Name == "web" && got != f.greeting {
			t.Fatalf("the revision of %q was acknowledged, and there is that of %q", f.greeting, got)
		}
		if s.State != resources.ServiceRunning {
			return fmt.Errorf("service %s is %s: %s", s.Service.Name, s.State, s.Message)
		}
		if s.Ready != s.Service.Replicas || len(known) != s.Service.Replicas {
			return fmt.Errorf("%d of %d replicas of %s are ready, and there are %d: %+v", s.Ready, s.Service.Replicas, s.Service.Name, len(known), known)
		}
		slots := map[string]bool{}
		for _, r := range known {
			slot := strings.Split(string(r.ID), "-")[1]
			if slots[slot] {
				return fmt.Errorf("there are two replicas of slot %s", slot)
			}
			slots[slot] = true
			want[r.Node] = append(want[r.Node], string(r.ID))
		}
	}
	for _, h := range f.Hosts {
		if f.gone[h] {
			continue
		}
		out, err := h.Podman.Podman(ctx, "ps", "--format", `{{index .Labels "io.skerry.replica"}}`).Output()
		if err != nil {
			return fmt.Errorf("list the containers: %w", err)
		}
		there, placed := strings.Fields(string(out)), want[h.Node(t)]
		slices.Sort(there)
		slices.Sort(placed)
		if !slices.Equal(there, placed) {
			return fmt.Errorf("node %s runs %v, and should run %v", h.Node(t), there, placed)
		}
		delete(want, h.Node(t))
	}
	if len(want) > 0 {
		return fmt.Errorf("replicas are placed on nodes that are gone: %v", want)
	}
	nodes, err := f.control.Nodes(ctx)
	for _, n := range nodes {
		if n.Reserved.CPU > n.Allocatable.CPU || n.Reserved.Memory > n.Allocatable.Memory {
			t.Fatalf("node %s is overcommitted: %v of %v", n.Name, n.Reserved, n.Allocatable)
		}
	}
	return err
}

// goneNode is true for the node of a host that nobody asks at present.
func (f *faulty) goneNode(t *testing.T, id resources.NodeID) bool {
	t.Helper()
	for h := range f.gone {
		if h.Node(t) == id {
			return true
		}
	}
	return false
}

// leader finds the host that leads.
func (f *faulty) leader(t *testing.T) *testbed.Host {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var found *testbed.Host
	err := f.control.WatchCluster(ctx, func(s resources.ClusterStatus) (bool, error) {
		for _, h := range f.Hosts {
			if h.Node(t) == s.Leader {
				found = h
			}
		}
		return found == nil, nil
	})
	if err != nil {
		t.Fatalf("find who leads: %v", err)
	}
	return found
}

// others are the servers but for one.
func (f *faulty) others(h *testbed.Host) []*testbed.Host {
	return slices.DeleteFunc(slices.Clone(f.Hosts[:3]), func(o *testbed.Host) bool { return o == h })
}

// without does something while nobody asks these hosts.
func (f *faulty) without(t *testing.T, do func(), hosts ...*testbed.Host) {
	t.Helper()
	all := f.control
	var servers []*testbed.Host
	for _, h := range hosts {
		f.gone[h] = true
	}
	for _, h := range f.Hosts[:3] {
		if !f.gone[h] {
			servers = append(servers, h)
		}
	}
	f.control = testbed.Control(t, servers...)
	do()
	f.control = all
	clear(f.gone)
}

// agentKilled: its containers run on, and are the same afterwards.
func (f *faulty) agentKilled(t *testing.T) {
	worker := f.Hosts[3]
	before, process := containersOf(t, worker), worker.Process(testbed.Agent)
	worker.Kill(t, testbed.Agent)
	eventually(t, "the agent runs again", func() (string, bool) {
		now := worker.Process(testbed.Agent)
		return strconv.Itoa(now), now != process
	})
	f.settles(t)
	if after := containersOf(t, worker); !slices.Equal(before, after) || len(before) == 0 {
		t.Errorf("containers before: %v, after: %v", before, after)
	}
}

func (f *faulty) agentsKilled(t *testing.T) {
	for _, h := range f.Hosts {
		h.Kill(t, testbed.Agent)
	}
}

func (f *faulty) serverKilled(t *testing.T) { f.others(f.leader(t))[0].Kill(t, testbed.Server) }

func (f *faulty) leaderKilled(t *testing.T) { f.leader(t).Kill(t, testbed.Server) }

func containersOf(t *testing.T, h *testbed.Host) []string {
	t.Helper()
	out, err := h.Podman.Podman(t.Context(), "ps", "--no-trunc", "--format", "{{.ID}} {{.StartedAt}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool { return line == "" })
	slices.Sort(all)
	return all
}

// podmanKilled: and while it is away, a container ends.
func (f *faulty) podmanKilled(t *testing.T) {
	worker := f.Hosts[4]
	worker.Podman.Down(t)
	if programs := worker.Podman.Programs(t); len(programs) > 0 {
		kill(t, programs[0])
	}
	worker.Podman.Up(t)
}

// conmonKilled: Podman then knows nothing of the container's end.
func (f *faulty) conmonKilled(t *testing.T) {
	if conmons := f.Hosts[5].Podman.Conmons(t); len(conmons) > 0 {
		kill(t, conmons[0])
	}
}

// kill kills a process, which may have ended by itself.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
}

func (f *faulty) powerCut(t *testing.T) {
	worker := f.Hosts[4]
	worker.PowerOff(t)
	f.without(t, func() { f.settles(t) }, worker)
	worker.PowerOn(t)
}

func (f *faulty) powerCutOfTwo(t *testing.T) {
	leader, worker := f.leader(t), f.Hosts[5]
	leader.PowerOff(t)
	worker.PowerOff(t)
	f.without(t, func() { f.settles(t) }, leader, worker)
	leader.PowerOn(t)
	worker.PowerOn(t)
}

// minorityCutOff: what runs there is a stray once it is back.
func (f *faulty) minorityCutOff(t *testing.T) {
	server, worker := f.others(f.leader(t))[0], f.Hosts[3]
	f.Part(t, server, worker)
	f.without(t, func() { f.settles(t) }, server, worker)
	f.Heal(t)
}

// leaderCutOff: it can't acknowledge anything; the others can.
func (f *faulty) leaderCutOff(t *testing.T) {
	leader := f.leader(t)
	f.Part(t, leader)
	f.without(t, func() {
		f.note(t)
		f.settles(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience/10)
		defer cancel()
		if _, err := testbed.Control(t, leader).Services(ctx); err == nil {
			t.Error("who is cut off still answers for the cluster")
		}
	}, leader)
	f.Heal(t)
}

// mostCutOff: it may well be the leader who is; so nothing moves for a minute.
func (f *faulty) mostCutOff(t *testing.T) {
	leader := f.leader(t)
	before, began := f.placements(t), time.Now()
	cut := append(f.others(leader)[:1], f.Hosts[3:]...)
	f.Part(t, cut...)
	f.without(t, func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := f.control.WatchEvents(ctx, func(all []resources.Event) (bool, error) {
			return !slices.ContainsFunc(all, func(e resources.Event) bool { return e.Reason == "ManySilent" && e.Time.After(began) }), nil
		})
		if err != nil {
			t.Fatalf("nobody says that most nodes are silent: %v", err)
		}
		if after := f.placements(t); !slices.Equal(before, after) {
			t.Errorf("placed before: %v, after: %v", before, after)
		}
	}, cut...)
	f.Heal(t)
	f.settles(t)
	if after := f.placements(t); !slices.Equal(before, after) {
		t.Errorf("placed before: %v, in the end: %v", before, after)
	}
}

// placements lists the replicas with their nodes.
func (f *faulty) placements(t *testing.T) []string {
	t.Helper()
	services, err := f.control.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range services {
		for _, r := range s.Replicas {
			all = append(all, fmt.Sprintf("%s on %s", r.ID, r.Node))
		}
	}
	slices.Sort(all)
	return all
}

// leaderStalls for much longer than its lease: when it goes on, it isn't the leader
// any more and changes nothing.
func (f *faulty) leaderStalls(t *testing.T) {
	leader := f.leader(t)
	minute := time.After(time.Minute)
	leader.Stall(t)
	f.without(t, func() {
		if now := f.leader(t); now == leader {
			t.Error("who stalls leads")
		}
		f.note(t)
		f.settles(t)
	}, leader)
	<-minute
	leader.Resume(t)
}

// leaderAway: the others go on with the rollout.
func (f *faulty) leaderAway(t *testing.T) {
	leader := f.leader(t)
	leader.End(os.Kill)
	f.without(t, func() { f.settles(t) }, leader)
	leader.Start(t)
}

// powerCutOfMost: nobody can decide anything until they are back.
func (f *faulty) powerCutOfMost(t *testing.T) {
	dark := append(f.others(f.Hosts[0]), f.Hosts[3:5]...)
	for _, h := range dark {
		h.PowerOff(t)
	}
	f.undecided(t, f.Hosts[0])
	testbed.PowerOn(t, dark...)
}

// mostServersCutOff: the containers run on, and what is left of the control plane
// says why it does nothing.
func (f *faulty) mostServersCutOff(t *testing.T) {
	f.Part(t, f.Hosts[0])
	f.Part(t, f.Hosts[1])
	f.undecided(t, f.Hosts[2])
	f.serves(t)
	f.Heal(t)
}

// undecided expects that a server which has lost the others takes nothing, and
// says why.
func (f *faulty) undecided(t *testing.T, server *testbed.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience/10)
	defer cancel()
	note := resources.Service{Name: "lost", Template: resources.Template{Image: f.image}}
	note.SetDefaults()
	began := time.Now()
	_, err := testbed.Control(t, server).PutService(ctx, note)
	t.Logf("after %s: %v", time.Since(began).Round(100*time.Millisecond), err)
	if err == nil {
		t.Error("who has lost the others takes a service")
	}
}

// serves expects that all but two replicas run, which is what a rollout may take
// away.
func (f *faulty) serves(t *testing.T) {
	t.Helper()
	var all []string
	for _, h := range f.Hosts {
		all = append(all, containersOf(t, h)...)
	}
	if len(all) < 4 {
		t.Errorf("of 6 containers run %d: %v", len(all), all)
	}
}

// diskFull: its server ends, and waits; the others go on.
func (f *faulty) diskFull(t *testing.T) {
	full := f.Hosts[0]
	full.FillDisk(t)
	f.writeMuch(t, full)
	f.settles(t)
	// Its event is gone where the leader that heard of it was on that host.
	eventually(t, "the cluster knows of the disk", func() (string, bool) {
		nodes, err := f.control.Nodes(t.Context())
		return fmt.Sprintf("%+v, %v", nodes, err), slices.ContainsFunc(nodes, func(n resources.NodeStatus) bool { return n.Has(resources.DiskPressure) })
	})
	f.refuses(t, full)
	full.FreeDisk(t)
}

// disksFull: nothing is decided until there is room.
func (f *faulty) disksFull(t *testing.T) {
	full := f.Hosts[:2]
	for _, h := range full {
		h.FillDisk(t)
	}
	f.writeMuch(t, full...)
	f.undecided(t, f.Hosts[2])
	f.serves(t)
	for _, h := range full {
		f.refuses(t, h)
		h.FreeDisk(t)
	}
}

// writeMuch writes until the servers on these hosts have ended.
func (f *faulty) writeMuch(t *testing.T, full ...*testbed.Host) {
	t.Helper()
	before := map[*testbed.Host]int{}
	for _, h := range full {
		before[h] = h.Process(testbed.Server)
	}
	ended := func(h *testbed.Host) bool { return h.Process(testbed.Server) != before[h] }
	for n := range 400 {
		if !slices.ContainsFunc(full, func(h *testbed.Host) bool { return !ended(h) }) {
			t.Logf("they ended after %d writes", n)
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience/10)
		if err := f.tryNote(ctx, strings.Repeat("x", 512<<10)); err != nil {
			t.Logf("a write is refused: %v", err)
		}
		cancel()
	}
	t.Error("a server has not noticed that its disk is full")
}

// refuses expects that a server says that its disk is full.
func (f *faulty) refuses(t *testing.T, server *testbed.Host) {
	t.Helper()
	control := testbed.Control(t, server)
	eventually(t, "it says that its disk is full", func() (string, bool) {
		_, err := control.Services(t.Context())
		return fmt.Sprint(err), err != nil && strings.Contains(err.Error(), "is full: ")
	})
}
