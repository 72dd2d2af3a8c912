package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/firstboot"
	"github.com/skerry-io/skerry/resources"
)

// The commands that plugins run over SSH on machines that were there before
// skerry, and on all for a new version.

func adoptCommand(logger func() *slog.Logger) *cobra.Command {
	return &cobra.Command{
		Use: "adopt", Short: "Make this machine a node", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return firstboot.Adopt(c.Context(), resources.NodeID(newID()), logger())
		},
	}
}

func abandonCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "abandon", Short: "Take skerry off this machine, which was there before it", Args: cobra.NoArgs}
	force := c.Flags().Bool("force", false, "also where the node is in a cluster: its containers are removed, and what it has of the store")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *force {
			if err := forget(c.Context()); err != nil {
				return err
			}
		}
		return firstboot.Abandon(c.Context(), logger())
	}
	return c
}

// forget makes this node forget the cluster that it is in, which may have
// removed it while it was away.
func forget(ctx context.Context) error {
	cluster, found, err := agent.Cluster(firstboot.Data)
	if err != nil || !found {
		return err
	}
	dialer := client.NewDialer(client.Options{})
	defer dialer.Close()
	return dialer.Agent(resources.Endpoint{Socket: resources.AgentSocket}).Forget(ctx, cluster.ID)
}

func renewCommand() *cobra.Command {
	return &cobra.Command{
		Use: "renew", Short: "Start anew what runs of skerry on this node, with this program", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error { return firstboot.Renew(c.Context()) },
	}
}

// dialCommand leads stdin and stdout to a socket: sudo runs it where root can't
// log in.
func dialCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dial SOCKET", Short: "Connect to a socket of this node", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := (&net.Dialer{}).DialContext(c.Context(), "unix", args[0])
			if err != nil {
				return fmt.Errorf("connect to %s: %w", args[0], err)
			}
			defer connected.Close() //nolint:errcheck // it is over
			fmt.Fprint(c.OutOrStdout(), client.Connected)
			go func() {
				io.Copy(connected, c.InOrStdin()) //nolint:errcheck // it is over
				connected.Close()                 //nolint:errcheck // it is over
			}()
			io.Copy(c.OutOrStdout(), connected) //nolint:errcheck // it is over
			return nil
		},
	}
}
