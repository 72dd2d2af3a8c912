package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// leaveCommand moves what this node does elsewhere: what the plugin asks of a
// node before its machine goes.
func leaveCommand(logger func() *slog.Logger) *cobra.Command {
	var p places
	c := &cobra.Command{
		Use: "leave", Short: "Move what this node does elsewhere, before its machine goes away", Args: cobra.NoArgs,
		Long: "Move what this node does elsewhere, before its machine goes away: its part in the control plane, and then its\n" +
			"replicas. It returns when that is done. The node stays one of its cluster, and is what it was when it comes back. Where\n" +
			"the other servers would be no majority, or replicas would have nowhere to go, it says so and fails.",
	}
	p.flags(c)
	timeout := c.Flags().Duration("timeout", 5*time.Minute, "how long that may take")
	force := c.Flags().Bool("force", false, "also where replicas would have nowhere to go, or wait with the node")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeoutCause(c.Context(), *timeout, fmt.Errorf("that took longer than %s", *timeout))
		defer cancel()
		dialer := client.NewDialer(client.Options{Log: logger()})
		defer dialer.Close()
		return dialer.Agent(resources.Endpoint{Socket: p.socket(filepath.Base(resources.AgentSocket))}).Leave(ctx, *force)
	}
	return c
}

func nodeCommand(logger func() *slog.Logger) *cobra.Command {
	forget := &cobra.Command{
		Use: "forget NODE", Short: "Take a node out of the cluster that is gone for good", Args: cobra.ExactArgs(1),
		Long: "Take a node out of the cluster that is gone for good. What was placed there counts as gone, and the node's certificate\n" +
			"is good for nothing from now on: should it come back, it has to join anew.",
	}
	r := reachFlags(forget, logger)
	forget.RunE = func(c *cobra.Command, args []string) error {
		return r.with(func(control *client.Server) error {
			node, err := findNode(c.Context(), control, args[0])
			if err != nil {
				return err
			}
			if node.Ready {
				return errors.New("node " + node.Name + " is heard: take it out of the skerry_cluster, or stop its machine first")
			}
			if err := control.DeleteNode(c.Context(), node.ID); err != nil {
				return err
			}
			c.Printf("node %s is forgotten\n", node.Name)
			return nil
		})
	}
	c := &cobra.Command{Use: "node", Short: "Look after one node"}
	c.AddCommand(forget)
	return c
}
