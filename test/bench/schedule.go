package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// The names of the placements are WHAT/REPLICAS-on-NODES:
//
//	one, one-spread      one service on empty nodes; spread over racks, with a
//	                     constraint
//	many, many-spread    200 services of mixed size and constraints on nodes that
//	                     are half full; each spread over racks, too
//	spread-cost          one-spread, against one
//	plan, plan-memory    the planner alone, against 60 s and 4 GiB
//
// But for the last two, each is measured against the same in swarmkit's
// scheduler, in a process of its own as ours. The clock runs from a store that
// holds nodes and waiting replicas, whose garbage is collected, until a watcher of
// the store has seen the last replica on a node.

// placeSizes are nodes, replicas, and how often both sides are measured.
var placeSizes = []struct{ nodes, replicas, turns int }{{1000, 10_000, 5}, {5000, 10_000, 5}, {1000, 100_000, 3}}

// The largest plan, and what it may take.
const (
	planNodes    = 6100
	planReplicas = 2_000_000
	planSeconds  = 60
	planGiB      = 4
)

const racks = 25

// workload is what is to be placed, as both sides read it.
type workload struct {
	Nodes    []workNode
	Services []workService
	// PlanOnly leaves the store out.
	PlanOnly bool
}

type workNode struct {
	Name   string
	Labels map[string]string
	CPU    int64 // thousandths of a core
	Memory int64 // bytes
	// Fillers run there already, each of FillerCPU and FillerMemory.
	Fillers                 int
	FillerCPU, FillerMemory int64
}

type workService struct {
	Name     string
	Replicas int
	CPU      int64
	Memory   int64
	// Constraint is a label, == or !=, and a value; nil for none.
	Constraint []string
	// Spread is a label, or empty.
	Spread string
}

// placed is how a run went.
type placed struct {
	Seconds float64
	Placed  int
	// Nodes that took something, and the most that one took.
	Nodes, Most int
}

func placements() []bench {
	var all []bench
	for _, size := range placeSizes {
		for _, many := range []bool{false, true} {
			for _, spread := range []bool{false, true} {
				w := newWorkload(size.nodes, size.replicas, many, spread)
				all = append(all, bench{placeName(size.nodes, size.replicas, many, spread), 0.1, againstSwarmkit(w, size.turns)})
			}
		}
		name := fmt.Sprintf("placements/spread-cost/%d-on-%d", size.replicas, size.nodes)
		all = append(all, bench{name, 2, spreadCost(size.nodes, size.replicas, 3*size.turns)})
	}
	size := fmt.Sprintf("%d-on-%d", planReplicas, planNodes)
	return append(
		all,
		bench{"placements/plan/" + size, 1, plan(func(p placed, _ float64) float64 { return p.Seconds }, planSeconds, "s")},
		bench{"placements/plan-memory/" + size, 1, plan(func(_ placed, gib float64) float64 { return gib }, planGiB, "GiB")},
	)
}

func placeName(nodes, replicas int, many, spread bool) string {
	what := "one"
	if many {
		what = "many"
	}
	if spread {
		what += "-spread"
	}
	return fmt.Sprintf("placements/%s/%d-on-%d", what, replicas, nodes)
}

func newWorkload(nodes, replicas int, many, spread bool) workload {
	var w workload
	for i := range nodes {
		n := workNode{
			Name: fmt.Sprintf("node-%d", i), CPU: 32_000, Memory: 64 << 30,
			Labels: map[string]string{"rack": strconv.Itoa(i % racks), "disk": []string{"ssd", "hdd"}[i%2]},
		}
		if many {
			n.Fillers, n.FillerCPU, n.FillerMemory = 20, 800, 1600<<20
		}
		w.Nodes = append(w.Nodes, n)
	}
	if !many {
		s := workService{Name: "web", Replicas: replicas, CPU: 100, Memory: 256 << 20}
		if spread {
			s.Constraint, s.Spread = []string{"rack", "!=", "3"}, "rack"
		}
		w.Services = []workService{s}
		return w
	}
	const services = 200
	constraints := [][]string{nil, {"rack", "!=", "3"}, {"disk", "==", "ssd"}, {"rack", "!=", "7"}}
	for i := range services {
		s := workService{
			Name: fmt.Sprintf("service-%d", i), Replicas: replicas / services, Constraint: constraints[i%len(constraints)],
			CPU: int64(50 + 10*(i%11)), Memory: int64(100+20*(i%7)) << 20,
		}
		if spread {
			s.Spread = "rack"
		}
		w.Services = append(w.Services, s)
	}
	return w
}

// replicas is how many there are to place.
func (w workload) replicas() (sum int) {
	for _, s := range w.Services {
		sum += s.Replicas
	}
	return sum
}

func againstSwarmkit(w workload, turns int) func(context.Context, io.Writer) (comparison, error) {
	return func(ctx context.Context, notes io.Writer) (c comparison, err error) {
		swarmkit, err := buildSwarmkit(ctx)
		if err != nil {
			return c, err
		}
		for range turns {
			theirs, _, err := w.run(ctx, swarmkit)
			if err != nil {
				return c, err
			}
			ours, _, err := w.runOurs(ctx)
			if err != nil {
				return c, err
			}
			fmt.Fprintf(notes, "ours   %+v\nagainst %+v\n", ours, theirs)
			c.ours, c.against = append(c.ours, ours.Seconds), append(c.against, theirs.Seconds)
		}
		return c, nil
	}
}

func spreadCost(nodes, replicas, turns int) func(context.Context, io.Writer) (comparison, error) {
	return func(ctx context.Context, _ io.Writer) (c comparison, err error) {
		for range turns {
			plain, _, err := newWorkload(nodes, replicas, false, false).runOurs(ctx)
			if err != nil {
				return c, err
			}
			spread, _, err := newWorkload(nodes, replicas, false, true).runOurs(ctx)
			if err != nil {
				return c, err
			}
			c.ours, c.against = append(c.ours, spread.Seconds), append(c.against, plain.Seconds)
		}
		return c, nil
	}
}

// plan measures the planner alone, with all that its process takes.
func plan(what func(p placed, gib float64) float64, limit float64, unit string) func(context.Context, io.Writer) (comparison, error) {
	return func(ctx context.Context, notes io.Writer) (comparison, error) {
		w := newWorkload(planNodes, planReplicas, false, false)
		w.PlanOnly = true
		// So many fit on 32 cores and 64 GiB.
		w.Services[0].CPU, w.Services[0].Memory = 50, 100<<20
		p, gib, err := w.runOurs(ctx)
		fmt.Fprintf(notes, "%+v in %.2f GiB\n", p, gib)
		return comparison{ours: []float64{what(p, gib)}, against: []float64{limit}, unit: unit}, err
	}
}

// buildSwarmkit builds the other side, which is a module of its own.
func buildSwarmkit(ctx context.Context) (program string, err error) {
	program, err = filepath.Abs("build/bench-swarmkit")
	if err != nil {
		return "", fmt.Errorf("build swarmkit: %w", err)
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-C", "test/bench/swarmkit", "-o", program, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build swarmkit: %w: %s", err, out)
	}
	return program, nil
}

func (w workload) runOurs(ctx context.Context) (p placed, gib float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return p, 0, fmt.Errorf("find this program: %w", err)
	}
	return w.run(ctx, self, placeCommand)
}

// run hands the workload to a program, and returns what that says and the
// memory that it took at most.
func (w workload) run(ctx context.Context, program string, args ...string) (p placed, gib float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	text, err := json.Marshal(w)
	if err != nil {
		return p, 0, fmt.Errorf("write the workload: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &p)
	}
	if err == nil && p.Placed != w.replicas() {
		err = fmt.Errorf("%d of %d replicas were placed", p.Placed, w.replicas())
	}
	if err != nil {
		return p, 0, fmt.Errorf("run %s: %w", filepath.Base(program), err)
	}
	return p, peakMemory(cmd.ProcessState), nil
}
