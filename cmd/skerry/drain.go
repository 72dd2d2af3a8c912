package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// look is how often a command that waits looks how far it is.
const look = time.Second

func drainCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "drain NODE", Short: "Move all replicas of a node elsewhere", Args: cobra.ExactArgs(1),
		Long: "Move all replicas of a node elsewhere, one of each service after the other, and wait until none is left and those in\n" +
			"their place are ready. The node gets no more until `skerry uncordon`.",
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
			before, err := control.Services(c.Context())
			if err != nil {
				return err
			}
			if err := control.PutAvailability(c.Context(), node.ID, resources.NodeDrained); err != nil || *noWait {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(c.Context(), *timeout, fmt.Errorf("that took longer than %s", *timeout))
			defer cancel()
			return awaitDrain(ctx, c, control, newDrain(node, before))
		})
	}
	return c
}

// awaitDrain returns once the node is drained, and tells meanwhile how far it is,
// and which replicas find no other place.
func awaitDrain(ctx context.Context, c *cobra.Command, control *client.Server, d drain) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	told := map[string]bool{}
	last, waits := "", ""
	for {
		services, err := control.Services(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			var now string
			if now, waits = d.left(services); now == "" {
				c.Printf("node %s is drained\n", d.node.Name)
				return nil
			}
			if now != last {
				c.Printf("node %s: %s\n", d.node.Name, now)
			}
			if waits != "" && !told[waits] {
				told[waits] = true
				c.Println(waits)
			}
			last = now
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		err = fmt.Errorf("drain node %s: %s: %w", d.node.Name, last, context.Cause(ctx))
		if waits != "" {
			err = fmt.Errorf("%w; %s", err, waits)
		}
		return err
	}
}

// drain is what a drain of a node has to come to.
type drain struct {
	node resources.NodeStatus
	// ready are the replicas that were ready before, of each service that had one on
	// the node.
	ready map[string]int
}

func newDrain(node resources.NodeStatus, before []resources.ServiceStatus) drain {
	d := drain{node, map[string]int{}}
	for _, r := range replicasOf(before) {
		if r.Node == node.ID {
			d.ready[r.Service] = 0
		}
	}
	for _, s := range before {
		if _, here := d.ready[s.Service.Name]; here {
			d.ready[s.Service.Name] = s.Ready
		}
	}
	return d
}

// left says what is left to do, or nothing; and why a replica waits, where one
// does.
func (d drain) left(services []resources.ServiceStatus) (todo, waits string) {
	var parts []string
	count := 0
	for _, r := range replicasOf(services) {
		if r.Node == d.node.ID {
			count++
		}
		if _, moves := d.ready[r.Service]; moves && r.Node == "" && r.Status.Message != "" {
			waits = fmt.Sprintf("%s waits for a place: %s", r.ID, r.Status.Message)
		}
	}
	if count > 0 {
		parts = append(parts, fmt.Sprintf("%d replicas are left on it", count))
	}
	for _, s := range services {
		// A global service has a replica less where a node gets none.
		if ready, moves := d.ready[s.Service.Name]; moves && s.Ready < min(ready, s.Service.Replicas) {
			parts = append(parts, fmt.Sprintf("%s has %d of %d replicas ready", s.Service.Name, s.Ready, s.Service.Replicas))
		}
	}
	return strings.Join(parts, "; "), waits
}

func rebalanceCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "rebalance", Short: "Move replicas to where they would be placed today", Args: cobra.NoArgs,
		Long: "Move replicas to where they would be placed today, where that is clearly better: after nodes have come, say.\n" +
			"Of each service one replica moves at a time. The control plane goes on with it though nobody waits.",
	}
	r := reachFlags(c, logger)
	dry := c.Flags().Bool("dry-run", false, "only say what would move")
	noWait := c.Flags().Bool("no-wait", false, "don't wait until it is done")
	timeout := c.Flags().Duration("timeout", 10*time.Minute, "how long to wait")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeoutCause(c.Context(), *timeout, fmt.Errorf("that took longer than %s; it goes on", *timeout))
		defer cancel()
		return r.with(func(control *client.Server) error {
			said, err := control.Rebalance(ctx, *dry)
			if err != nil {
				return err
			}
			for _, m := range said.Moves {
				c.Printf("%s: %s -> %s, since %s\n", m.Replica, m.From, m.To, m.Reason)
			}
			if len(said.Moves) > 0 && !*dry && !*noWait {
				err = awaitMoves(ctx, c, control, len(said.Moves))
			}
			if err == nil && (len(said.Moves) == 0 || !*dry && !*noWait) {
				c.Println("every replica is where it belongs")
			}
			return err
		})
	}
	return c
}

// awaitMoves returns once the leader has made the moves of a rebalancing, and
// tells meanwhile how many are left.
func awaitMoves(ctx context.Context, c *cobra.Command, control *client.Server, left int) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		status, err := control.Cluster(ctx)
		if err != nil {
			return err
		}
		if status.Rebalance != left {
			left = status.Rebalance
			c.Printf("moves that are left: %d\n", left)
		}
		if left > 0 {
			continue
		}
		// What has moved has yet to come up.
		services, err := control.Services(ctx)
		if err != nil {
			return err
		}
		settled := true
		for _, s := range services {
			settled = settled && s.State != resources.ServiceRolling
		}
		if settled {
			return nil
		}
	}
}
