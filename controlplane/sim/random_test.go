package sim

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/resources"
)

var (
	seeds   = flag.Int("seeds", 12, "how many random runs there are")
	oneSeed = flag.Uint64("seed", 0, "the one random run to take")
	count   = flag.Int("ops", 200, "how many random operations a run has")
)

// Users and faults at random: what must hold holds at each step, and once the
// faults stop, all is as wanted after a while.
func TestRandom(t *testing.T) {
	list := []uint64{*oneSeed}
	if *oneSeed == 0 {
		list = nil
		for seed := range *seeds {
			list = append(list, uint64(seed)+1)
		}
	}
	for _, seed := range list {
		ops := draw(seed, *count)
		if err := run(t, seed, ops); err != nil {
			err = shrink(t, seed, ops, err)
			t.Errorf("seed %d: %v\nagain: go test ./controlplane/sim -run TestRandom -seed %d -ops %d", seed, err, seed, *count)
		}
	}
}

// op is one operation. What it is about follows from its numbers, so that a run
// without some others is a run too.
type op struct {
	do   string
	n    [8]int
	wait time.Duration // that follows
}

// draw makes the operations of a seed.
func draw(seed uint64, count int) []op {
	random := rand.New(rand.NewPCG(seed, 0))
	var words []string
	for word, a := range actions {
		for range a.weight {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	ops := make([]op, count)
	for i := range ops {
		o := &ops[i]
		o.do = words[random.IntN(len(words))]
		for n := range o.n {
			o.n[n] = random.IntN(1 << 16)
		}
		o.wait = []time.Duration{0, time.Second, 3 * time.Second, 5 * time.Second, 12 * time.Second}[random.IntN(5)]
	}
	return ops
}

// shrinkTime is how long a failure is made shorter, in real time.
const shrinkTime = 20 * time.Second

// shrink leaves out what the failure does not need.
func shrink(t *testing.T, seed uint64, ops []op, err error) error {
	t.Helper()
	began := time.Now()
	for size := len(ops) / 2; size > 0; size /= 2 {
		for at := 0; at < len(ops) && time.Since(began) < shrinkTime; {
			fewer := slices.Delete(slices.Clone(ops), at, min(at+size, len(ops)))
			if again := run(t, seed, fewer); again != nil {
				ops, err = fewer, again
			} else {
				at += size
			}
		}
	}
	return err
}

// run plays operations on a new cluster, and returns what went wrong.
func run(t *testing.T, seed uint64, ops []op) (err error) {
	t.Helper()
	simulate(t, seed, func(t *testing.T, c *cluster) {
		c.start(t, []int{1, 3, 3}[seed%3])
		for i := range 5 {
			capacity := resources.Capacity{CPU: 2100, Memory: 4*resources.GiB + 256*resources.MiB}
			m, err := c.newNode(fmt.Sprintf("node-%d", i+1), capacity, map[string]string{"zone": string(rune('a' + i%2))}, nil)
			if err != nil {
				t.Fatal(err)
			}
			m.boot()
			time.Sleep(apart)
		}
		r := &randomRun{cluster: c, holds: newInvariants(c), services: map[string]resources.Service{}}
		if err = r.play(ops); err != nil {
			err = fmt.Errorf("%w\n%s\nthe store:\n%s", err, strings.Join(r.trace, "\n"), r.dump())
		}
	})
	return err
}

// dump shows the replicas in the store.
func (r *randomRun) dump() string {
	state := r.state()
	var lines []string
	for _, replica := range state.Replicas.All() {
		m := r.machine(string(replica.Node))
		lines = append(lines, fmt.Sprintf("  %s revision %d wanted %t on %q, made at %s %s, reached %t", replica.ID, replica.Revision, replica.Wanted,
			replica.Node, replica.Created.Sub(r.began), replica.Waiting, m != nil && r.holds.reached(m)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// randomRun is one run.
type randomRun struct {
	*cluster
	holds    *invariants
	services map[string]resources.Service
	writes   int
	trace    []string // what was done, for people
}

// did keeps what an operation has done.
func (r *randomRun) did(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf("  %8s %s", time.Since(r.began).Truncate(time.Millisecond), fmt.Sprintf(format, args...)))
}

func (r *randomRun) play(ops []op) error {
	for i, o := range ops {
		actions[o.do].do(r, o)
		if err := r.advance(o.wait); err != nil {
			return fmt.Errorf("after operation %d, %s: %w", i+1, o.do, err)
		}
	}
	r.did("all is mended")
	r.mendAll()
	var err error
	for range settleTime / time.Second {
		if err := r.advance(time.Second); err != nil {
			return fmt.Errorf("after the last fault: %w", err)
		}
		if err = r.holds.settled(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s after the last fault: %w", settleTime, err)
}

// advance lets time go by, and checks what must hold.
func (r *randomRun) advance(d time.Duration) error {
	for {
		synctest.Wait()
		if err := r.holds.check(); err != nil {
			return err
		}
		if d <= 0 {
			return nil
		}
		time.Sleep(time.Second)
		d -= time.Second
	}
}

// mendAll ends all faults.
func (r *randomRun) mendAll() {
	all := append(r.cluster.nodes(), r.cluster.servers()...)
	r.network.change(func() {
		clear(r.network.pairs)
		clear(r.network.delay)
	})
	for _, m := range all {
		m.resume()
		r.sever(m, false)
		if m.containers != nil {
			m.containers.mend()
		}
		if !m.isUp() {
			m.boot()
		}
	}
}

func (r *randomRun) node(o op) *machine { return pick(r.nodes(), o.n[0]) }

func (r *randomRun) server(o op) *machine { return pick(r.servers(), o.n[0]) }

// any is a node, or sometimes a server.
func (r *randomRun) any(o op) *machine {
	if o.n[1]%4 == 0 {
		return r.server(o)
	}
	return r.node(o)
}

func pick[T any](list []T, n int) T { return list[n%len(list)] }

// actions are what can happen, and how often.
var actions = map[string]struct {
	weight int
	do     func(r *randomRun, o op)
}{
	"put":      {12, (*randomRun).put},
	"scale":    {8, (*randomRun).scale},
	"revise":   {8, (*randomRun).revise},
	"delete":   {3, (*randomRun).remove},
	"drain":    {2, func(r *randomRun, o op) { r.avail(o, resources.NodeDrained) }},
	"cordon":   {1, func(r *randomRun, o op) { r.avail(o, resources.NodeCordoned) }},
	"uncordon": {4, func(r *randomRun, o op) { r.avail(o, resources.NodeActive) }},
	"kill":     {3, (*randomRun).kill},
	"boot":     {8, (*randomRun).boot},
	"restart":  {3, (*randomRun).restart},
	"cut":      {3, (*randomRun).cut},
	"part":     {2, (*randomRun).part},
	"heal":     {8, (*randomRun).heal},
	"delay":    {2, (*randomRun).delay},
	"crash":    {8, (*randomRun).crash},
	"fail":     {6, (*randomRun).fail},
	"mend":     {4, (*randomRun).mend},
	"stall":    {2, (*randomRun).stall},
	"resume":   {4, (*randomRun).resume},
	"depose":   {2, (*randomRun).depose},
	"forget":   {1, (*randomRun).forget},
	"clock":    {1, (*randomRun).clock},
	"nothing":  {6, func(*randomRun, op) {}},
}

var names = []string{"web", "db", "cache", "batch"}

// put makes a service, or changes all of it.
func (r *randomRun) put(o op) {
	name := pick(names, o.n[0])
	s := resources.Service{Name: name, Replicas: o.n[1] % 7, Template: resources.Template{Image: image(name, "1")}}
	s.Resources.CPU = pick([]resources.MilliCPU{50, 100, 250, 600}, o.n[2])
	s.Resources.Memory = pick([]resources.Bytes{64, 200, 700}, o.n[3]) * resources.MiB
	s.Placement = &resources.Placement{
		Priority: o.n[4] % 3, MaxReplicasPerNode: pick([]int{0, 0, 0, 1}, o.n[4]/3),
		Spread: pick([][]string{nil, {"zone"}}, o.n[4]/12), Constraints: pick([][]string{nil, nil, nil, {"zone == a"}}, o.n[4]/24),
	}
	s.Update.Order = pick([]string{resources.StopFirst, resources.StartFirst}, o.n[5])
	s.Update.OnFailure = pick([]string{resources.OnFailurePause, resources.OnFailureRollback}, o.n[5]/2)
	s.Update.MinReady = pick([]resources.Duration{0, 0, resources.Duration(5 * time.Second)}, o.n[5]/4)
	if o.n[6]%6 == 0 {
		s.Ports = []resources.Port{{Target: 8000 + o.n[6]/6%2}}
	}
	if o.n[7]%8 == 0 {
		s.Mode = resources.ModeGlobal
	}
	r.write(s)
}

func (r *randomRun) scale(o op) {
	if s, found := r.services[pick(names, o.n[0])]; found {
		s.Replicas = o.n[1] % 9
		r.write(s)
	}
}

// revise changes the image, now and then to one that can't run.
func (r *randomRun) revise(o op) {
	s, found := r.services[pick(names, o.n[0])]
	if !found {
		return
	}
	tag := fmt.Sprint(r.writes)
	if o.n[1]%5 == 0 {
		tag += "-broken"
	}
	s.Image = image(s.Name, tag)
	r.write(s)
}

func (r *randomRun) write(s resources.Service) {
	r.writes++
	s = numbered(s, r.writes)
	// Until it is acknowledged it may be there or not.
	r.holds.wrote(s.Name, r.writes, false)
	err := r.ask(func(ctx context.Context) error {
		_, err := r.PutService(ctx, s)
		return err
	})
	r.did("write %d: put %s, %d of %s: %v", r.writes, s.Name, s.Replicas, s.Image, err)
	if err == nil {
		r.services[s.Name] = s
		r.holds.wrote(s.Name, r.writes, true)
	}
}

func (r *randomRun) remove(o op) {
	name := pick(names, o.n[0])
	r.holds.wrote(name, 0, false)
	err := r.ask(func(ctx context.Context) error { return r.DeleteService(ctx, name) })
	r.did("delete %s: %v", name, err)
	if err == nil {
		delete(r.services, name)
		r.holds.wrote(name, 0, true)
	}
}

func (r *randomRun) avail(o op, a resources.Availability) {
	m := r.node(o)
	err := r.ask(func(ctx context.Context) error { return r.PutAvailability(ctx, m.id, a) })
	r.did("%s becomes %q: %v", m.name, a, err)
}

func (r *randomRun) kill(o op) {
	if m := r.any(o); m.isUp() {
		r.did("kill %s", m.name)
		damage := o.n[2]
		m.powerOff(func(id resources.ReplicaID) bool { return (len(id)+int(id[len(id)-1])+damage)%5 == 0 })
	}
}

// boot boots some machine that is down.
func (r *randomRun) boot(o op) {
	down := slices.DeleteFunc(append(r.nodes(), r.servers()...), (*machine).isUp)
	if len(down) > 0 {
		m := pick(down, o.n[0])
		r.did("boot %s", m.name)
		m.boot()
	}
}

// restart ends the processes of a machine, which begin again.
func (r *randomRun) restart(o op) {
	if m := r.any(o); m.isUp() {
		r.did("restart %s", m.name)
		m.kill()
		m.boot()
	}
}

// heal heals one machine, or everything.
func (r *randomRun) heal(o op) {
	r.network.change(func() {
		clear(r.network.pairs)
		clear(r.network.delay)
	})
	for _, m := range append(r.nodes(), r.servers()...) {
		if o.n[0]%2 == 0 || m == r.any(o) {
			r.did("heal %s", m.name)
			r.sever(m, false)
		}
	}
}

func (r *randomRun) cut(o op) {
	m := r.any(o)
	r.did("cut %s", m.name)
	r.sever(m, true)
}

// part cuts a machine off from one server.
func (r *randomRun) part(o op) {
	m, other := r.any(o), pick(r.servers(), o.n[2])
	r.did("cut %s from %s", m.name, other.name)
	r.separate(m, other, true)
}

func (r *randomRun) mend(o op) {
	m := r.node(o)
	r.did("mend %s", m.name)
	m.containers.mend()
}

// forget lets a commit succeed without an answer.
func (r *randomRun) forget(op) {
	r.did("lose the answer of a commit")
	r.members.lose(1)
}

func (r *randomRun) clock(o op) {
	m, ahead := r.node(o), time.Duration(o.n[1]-1<<15)*time.Second
	r.did("set the clock of %s %s ahead", m.name, ahead)
	m.containers.setClock(ahead)
}

func (r *randomRun) delay(o op) {
	m := r.node(o)
	r.did("delay %s by %dms", m.name, o.n[1]%500)
	r.network.change(func() { r.network.delay[m] = time.Duration(o.n[1]%500) * time.Millisecond })
}

func (r *randomRun) crash(o op) {
	m := r.node(o)
	for _, one := range m.containers.replicas() {
		if one.Running && m.containers.crash(one.replica.Service, one.replica.Slot, 1+o.n[1]%3) {
			r.did("crash %s on %s", one.ID, m.name)
			return
		}
	}
}

// fail makes a step fail a few times, or take long, or fail although it was
// done.
func (r *randomRun) fail(o op) {
	f := fault{step: pick([]string{"pull", "create", "start", "stop", "remove", "list"}, o.n[1]), times: 1 + o.n[2]%5}
	switch o.n[3] % 4 {
	case 0:
		f.takes, f.slow = time.Duration(o.n[4]%40)*time.Second, true
	case 1:
		f.late = f.step != "list"
	case 2:
		f.takes = time.Duration(o.n[4]%5) * time.Second
	}
	m := r.node(o)
	r.did("fail %s on %s: %+v", f.step, m.name, f)
	m.containers.fail(f)
}

// stall stops the leader's process, until it is resumed.
func (r *randomRun) stall(op) {
	if m := r.election.who(); m != nil && !m.isStopped() && m.serves() {
		r.did("stop %s", m.name)
		m.pause()
	}
}

func (r *randomRun) resume(op) {
	r.did("resume")
	for _, m := range r.servers() {
		m.resume()
	}
}

// depose restarts the server that leads, so that another one does.
func (r *randomRun) depose(op) {
	if m := r.election.who(); m != nil && m.isUp() {
		r.did("restart %s, which leads", m.name)
		m.kill()
		m.boot()
	}
}
