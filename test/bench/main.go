// Bench measures what skerry promises of its speed, each against something
// simpler that does the same without skerry, in the same run. It prints a table
// and writes build/bench.json, where each row says on what machine it was.
//
//	make bench [NAME=...]
//	go run ./test/bench [NAME...]
//
// Ratios count, not values: both sides of a row are measured in turns, so that
// whatever else the machine does meets both. Each value is a median.
//
//	node-ready         a VM's start until its node's agent answers, against
//	                   the same image without skerry, until multi-user.target
//	image-upload       a sparse image into a storage pool, against cp
//	container-restart  a killed container until its program runs again, against
//	                   podman start: at most 150 ms more
//	container-create   a replica that is asked for until its program runs,
//	                   against podman run: at most 150 ms more
//	node-killed        a node's power cut until its replicas are ready elsewhere,
//	                   against 15 s
//	agent-memory       of an agent with 50 replicas, against 40 MiB
//	server-memory      of a server that has 100 nodes and
//	                   1,000 replicas, against 150 MiB
//	autoscale          the decisions about 5,000 services with 100,000 replicas on
//	                   one core, against 1 s; it needs nothing of the rest
//	network            what is between replicas: a family, see network.go
//	placements         replicas placed by the scheduler, against swarmkit's: a
//	                   family, see schedule.go; it needs nothing of the rest
//
// It needs root, the packages that the tests need, `make build` and, for
// node-ready, `make image`. Hypervisor and Podman are its own, and go with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
)

// bench is one measurement. It tells what it does on notes. A goal of zero is
// the comparison's own, or there is none.
type bench struct {
	name string
	goal float64
	run  func(ctx context.Context, notes io.Writer) (comparison, error)
}

var benches = slices.Concat([]bench{
	{"node-ready", 1.15, nodeReady},
	{"image-upload", 1.3, imageUpload},
	{"container-restart", 0, containerRestart},
	{"container-create", 0, containerCreate},
	{"node-killed", 1, nodeKilled},
	{"agent-memory", 1, agentMemory},
	{"server-memory", 1, serverMemory},
	{"autoscale", 1, autoscaling},
}, networks, placements())

func main() {
	if len(os.Args) > 1 && os.Args[1] == bootsCommand {
		exit(boots(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == placeCommand {
		exit(place(os.Stdin, os.Stdout))
	}
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: bench [-name NAME] [-out FILE] [NAME...]") }
	name := flag.String("name", "", "take this measurement only; all unless given")
	out := flag.String("out", "build/bench.json", "write the results to this file")
	testing.Init() // packages that are written for tests ask for its flags
	flag.Parse()
	names := flag.Args()
	if *name != "" {
		names = append(names, *name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(measure(ctx, names, *out))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// measure takes the named measurements, and writes and prints what came out.
// One that fails keeps none of the others back. A goal that is missed is a
// result, and no error.
func measure(ctx context.Context, names []string, out string) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	var rows []row
	var failures []error
	for _, b := range chosen {
		fmt.Fprintf(os.Stderr, "bench: %s\n", b.name)
		c, err := b.run(ctx, os.Stderr)
		if err != nil {
			failures = append(failures, fmt.Errorf("measure %s: %w", b.name, err))
			continue
		}
		rows = append(rows, c.row(b))
	}
	facts := thisMachine()
	for i := range rows {
		rows[i].Machine = facts
	}
	if err := write(out, slices.Concat([]row{}, rows)); err != nil {
		failures = append(failures, err)
	}
	table(os.Stdout, rows)
	return errors.Join(failures...)
}

func choose(names []string) ([]bench, error) {
	var chosen []bench
	for _, name := range names {
		before := len(chosen)
		var known []string
		for _, b := range benches {
			known = append(known, b.name)
			// A family is chosen by the part that its names have in common.
			if b.name == name || strings.HasPrefix(b.name, name+"/") {
				chosen = append(chosen, b)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("there is no measurement %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	if len(chosen) == 0 {
		return benches, nil
	}
	return chosen, nil
}

func write(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

func table(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVALUE\tAGAINST\tRATIO\tGOAL\tMET")
	for _, r := range rows {
		met := "yes"
		switch {
		case r.Goal == 0:
			met = "-"
		case !r.Met:
			met = "no"
		}
		fmt.Fprintf(t, "%s\t%.3g %s\t%.3g %s\t%.2f\t%.2f\t%s\n", r.Name, r.Value, r.Unit, r.Against, r.Unit, r.Ratio, r.Goal, met)
	}
	t.Flush() //nolint:errcheck // it goes to the terminal
}
