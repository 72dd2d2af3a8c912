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
		for _, volume := range volumeOf {
			if err := c.ask(func(ctx context.Context) error { _, err := c.PutVolume(ctx, volume); return err }); err != nil {
				t.Fatal(err)
			}
		}
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
	all := append(r.nodes(), r.servers()...)
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
	r.join(op{})
}
