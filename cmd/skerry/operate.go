package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// look is how often a command that waits asks for the reasons why it has to.
const look = time.Second

// availabilityCommand makes the commands that say what becomes of a node.
func availabilityCommand(use, short, done string, to resources.Availability, logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: use + " NODE", Short: short, Args: cobra.ExactArgs(1)}
	r := reachFlags(c, logger)
	c.RunE = func(c *cobra.Command, args []string) error {
		return r.with(func(control *client.Server) error {
			node, err := findNode(c.Context(), control, args[0])
			if err != nil {
				return err
			}
			if err := control.PutAvailability(c.Context(), node.ID, to); err != nil {
				return err
			}
			c.Printf("node %s %s\n", node.Name, done)
			return nil
		})
	}
	return c
}

func cordonCommand(logger func() *slog.Logger) *cobra.Command {
	return availabilityCommand("cordon", "Place no more replicas on a node", "gets no more replicas", resources.NodeCordoned, logger)
}

func uncordonCommand(logger func() *slog.Logger) *cobra.Command {
	return availabilityCommand("uncordon", "Place replicas on a node again", "gets replicas again", resources.NodeActive, logger)
}

func findNode(ctx context.Context, control *client.Server, text string) (resources.NodeStatus, error) {
	nodes, err := control.Nodes(ctx)
	if err != nil {
		return resources.NodeStatus{}, err
	}
	return oneOf("node", text, nodes, func(n resources.NodeStatus) []string { return []string{n.Name, string(n.ID)} })
}

func drainCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "drain NODE", Short: "Move all replicas of a node elsewhere", Args: cobra.ExactArgs(1),
		Long: "Move all replicas of a node elsewhere, one of each service after the other, and wait until none is left.\n" +
			"The node gets no more until `skerry uncordon`.",
	}
	r := reachFlags(c, logger)
	timeout := c.Flags().Duration("timeout", 5*time.Minute, "how long to wait")
	noWait := c.Flags().Bool("no-wait", false, "don't wait until it is done")
	c.RunE = func(c *cobra.Command, args []string) error {
		return r.with(func(control *client.Server) error {
			node, err := findNode(c.Context(), control, args[0])
			if err != nil {
				return err
			}
			if err := control.PutAvailability(c.Context(), node.ID, resources.NodeDrained); err != nil || *noWait {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(c.Context(), *timeout, fmt.Errorf("that took longer than %s", *timeout))
			defer cancel()
			return awaitDrain(ctx, c, control, node)
		})
	}
	return c
}

// awaitDrain returns once no replica is left on the node, and tells meanwhile
// how many there are, and which find no other place.
func awaitDrain(ctx context.Context, c *cobra.Command, control *client.Server, node resources.NodeStatus) error {
	waiting, stop := context.WithCancel(ctx)
	var telling sync.WaitGroup
	var stuck string
	telling.Go(func() { stuck = tellStuck(waiting, c, control) })
	left := -1
	err := control.WatchNode(ctx, node.ID, func(s resources.NodeStatus) (bool, error) {
		if s.Replicas != left {
			left = s.Replicas
			c.Printf("node %s has %d replicas\n", node.Name, left)
		}
		return left > 0, nil
	})
	stop()
	telling.Wait()
	if err != nil && stuck != "" {
		err = fmt.Errorf("%w; %s", err, stuck)
	}
	if err != nil {
		return fmt.Errorf("drain node %s: %d replicas are left on it: %w", node.Name, left, err)
	}
	c.Printf("node %s is drained\n", node.Name)
	return nil
}

// tellStuck tells which replicas find no place, each once, until ctx ends; it
// returns the last one.
func tellStuck(ctx context.Context, c *cobra.Command, control *client.Server) (last string) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	told := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
		services, err := control.Services(ctx)
		if err != nil {
			continue // whoever waits for the node finds out
		}
		last = ""
		for _, r := range replicasOf(services) {
			if r.Node != "" || r.Status.Message == "" {
				continue
			}
			last = fmt.Sprintf("%s waits for a place: %s", r.ID, r.Status.Message)
			if !told[last] {
				told[last] = true
				c.Println(last)
			}
		}
	}
}

func rebalanceCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "rebalance", Short: "Move replicas to where they would be placed today", Args: cobra.NoArgs,
		Long: "Move replicas to where they would be placed today, where that is clearly better: after nodes have come, say.\n" +
			"Of each service one replica moves at a time.",
	}
	r := reachFlags(c, logger)
	dry := c.Flags().Bool("dry-run", false, "only say what would move")
	timeout := c.Flags().Duration("timeout", 10*time.Minute, "how long to go on")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeoutCause(c.Context(), *timeout, fmt.Errorf("that took longer than %s", *timeout))
		defer cancel()
		return r.with(func(control *client.Server) error { return rebalance(ctx, c, control, *dry) })
	}
	return c
}

// rebalance begins moves until there are none to make. A replica that moves is
// replaced, so there are as many rounds as moves at most.
func rebalance(ctx context.Context, c *cobra.Command, control *client.Server, dry bool) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	rounds := -1
	for {
		said, err := control.Rebalance(ctx, dry)
		if err != nil {
			return err
		}
		for _, m := range said.Moves {
			if dry || slices.Contains(said.Begun, m.Replica) {
				c.Printf("%s: %s -> %s, since %s\n", m.Replica, m.From, m.To, m.Reason)
			}
		}
		if rounds < 0 {
			rounds = len(said.Moves)
		}
		if len(said.Begun) > 0 {
			rounds--
		}
		switch {
		case len(said.Moves) == 0:
			c.Println("every replica is where it belongs")
			return nil
		case dry || rounds < 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func logsCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "logs SERVICE|REPLICA", Short: "Show what a replica has written, or all of a service", Args: cobra.ExactArgs(1),
	}
	r := reachFlags(c, logger)
	var o resources.LogOptions
	c.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on with what is written from now on, until the replica is gone")
	c.Flags().BoolVarP(&o.Previous, "previous", "p", false, "what the run wrote that ended last, before the present one")
	c.Flags().IntVar(&o.Tail, "tail", -1, "only so many of the last lines")
	c.Flags().BoolVar(&o.Timestamps, "timestamps", false, "begin each line with its time")
	since := c.Flags().Duration("since", 0, "only what is no older than this, as in 10m")
	c.MarkFlagsMutuallyExclusive("follow", "previous")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *since > 0 {
			o.Since = time.Now().Add(-*since)
		}
		return r.with(func(control *client.Server) error {
			all, err := findReplicas(c.Context(), control, args[0])
			if err != nil {
				return err
			}
			if len(all) == 1 {
				return control.Logs(c.Context(), all[0].ID, o, c.OutOrStdout())
			}
			var mu sync.Mutex
			group, ctx := errgroup.WithContext(c.Context())
			for _, one := range all {
				out := &prefixed{prefix: string(one.ID) + " | ", to: c.OutOrStdout(), mu: &mu}
				group.Go(func() error { return control.Logs(ctx, one.ID, o, out) })
			}
			return group.Wait()
		})
	}
	return c
}

// findReplicas finds the replicas of a service, or the one that is meant.
func findReplicas(ctx context.Context, control *client.Server, text string) ([]replicaRow, error) {
	services, err := control.Services(ctx)
	if err != nil {
		return nil, err
	}
	all := replicasOf(services)
	var found []replicaRow
	for _, r := range all {
		if r.Service == text {
			found = append(found, r)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	one, err := oneOf("replica", text, all, func(r replicaRow) []string { return []string{string(r.ID)} })
	return []replicaRow{one}, err
}

// prefixed writes whole lines, each behind a prefix. Several of them share mu.
type prefixed struct {
	prefix string
	to     io.Writer
	mu     *sync.Mutex
	rest   []byte
}

func (p *prefixed) Write(text []byte) (int, error) {
	p.rest = append(p.rest, text...)
	for {
		end := bytes.IndexByte(p.rest, '\n')
		if end < 0 {
			return len(text), nil
		}
		p.mu.Lock()
		_, err := fmt.Fprintf(p.to, "%s%s\n", p.prefix, p.rest[:end])
		p.mu.Unlock()
		if err != nil {
			return 0, err
		}
		p.rest = p.rest[end+1:]
	}
}

// exitError is a command that ended with this code, which is skerry's then.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("the command ended with exit code %d", int(e)) }

func execCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "exec REPLICA -- COMMAND [ARGUMENT...]", Short: "Run a command in a replica", Args: cobra.MinimumNArgs(2),
		Long: "Run a command in a replica's container. Its exit code is that of skerry.",
	}
	r := reachFlags(c, logger)
	var command resources.Command
	c.Flags().BoolVarP(&command.Input, "interactive", "i", false, "hand it what is typed, or piped in")
	c.Flags().BoolVarP(&command.Terminal, "tty", "t", false, "give it a terminal")
	c.RunE = func(c *cobra.Command, args []string) error {
		command.Args = args[1:]
		return r.with(func(control *client.Server) error {
			all, err := findReplicas(c.Context(), control, args[0])
			if err != nil {
				return err
			}
			if len(all) > 1 {
				return fmt.Errorf("%s has %d replicas; name one, such as %s", args[0], len(all), all[0].ID)
			}
			code, err := runIn(c, control, all[0].ID, command)
			if err == nil && code != 0 {
				err = exitError(code)
			}
			return err
		})
	}
	return c
}

func runIn(c *cobra.Command, control *client.Server, id resources.ReplicaID, command resources.Command) (int, error) {
	streams := resources.Streams{In: c.InOrStdin(), Out: c.OutOrStdout(), Err: c.ErrOrStderr()}
	if in, isFile := c.InOrStdin().(*os.File); command.Terminal && isFile && term.IsTerminal(int(in.Fd())) {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return 0, fmt.Errorf("take over the terminal: %w", err)
		}
		defer term.Restore(int(in.Fd()), before) //nolint:errcheck // it is as it was, or gone
		sizes, stop := terminalSizes(in)
		defer stop()
		streams.Resize = sizes
	} else if command.Terminal {
		return 0, errors.New("--tty needs a terminal, and standard input is none")
	}
	return control.Exec(c.Context(), id, command, streams)
}

// terminalSizes gives the size of a terminal, now and whenever it changes.
func terminalSizes(terminal *os.File) (sizes <-chan resources.TerminalSize, stop func()) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	found := make(chan resources.TerminalSize, 1)
	over := make(chan struct{})
	go func() {
		for {
			if width, height, err := term.GetSize(int(terminal.Fd())); err == nil {
				select {
				case found <- resources.TerminalSize{Width: width, Height: height}:
				case <-over:
					return
				}
			}
			select {
			case <-changes:
			case <-over:
				return
			}
		}
	}()
	return found, func() { signal.Stop(changes); close(over) }
}
