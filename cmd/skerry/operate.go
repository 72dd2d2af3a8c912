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
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

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
