package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// statusCommand shows what a cluster does: on one of its servers, or from
// anywhere with its endpoint.
func statusCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show the nodes and services of a cluster", Args: cobra.NoArgs}
	endpoint := c.Flags().String("endpoint", "unix://"+resources.ServerSocket, "endpoint of the cluster, as skerry_cluster gives it")
	key := c.Flags().String("ssh-key", "", "private key to log in with")
	events := c.Flags().Bool("events", false, "show what happened, too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		endpoints, err := resources.ParseEndpoints(*endpoint)
		if err != nil {
			return err
		}
		dialer := client.NewDialer(client.Options{Key: *key, Agent: true, Log: logger()})
		defer dialer.Close()
		control := dialer.Server(endpoints...)
		cluster, err := control.Cluster(c.Context())
		if err != nil {
			return err
		}
		nodes, err := control.Nodes(c.Context())
		if err != nil {
			return err
		}
		services, err := control.Services(c.Context())
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		c.Printf("Cluster %s (%s)\n\n", cluster.Name, cluster.ID)
		printNodes(out, nodes)
		printServices(out, services)
		if *events {
			happened, err := control.Events(c.Context())
			if err != nil {
				return err
			}
			printEvents(out, happened)
		}
		return nil
	}
	return c
}

func table(out io.Writer, header string, rows func(row func(cells ...any))) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	rows(func(cells ...any) {
		texts := make([]string, len(cells))
		for i, cell := range cells {
			texts[i] = fmt.Sprint(cell)
		}
		fmt.Fprintln(w, strings.Join(texts, "\t"))
	})
	w.Flush() //nolint:errcheck // the terminal has gone
	fmt.Fprintln(out)
}

func printNodes(out io.Writer, nodes []resources.NodeStatus) {
	table(out, "NODE STATE REPLICAS CPU MEMORY PODMAN ADDRESS", func(row func(...any)) {
		for _, n := range nodes {
			state := "silent"
			if n.Ready {
				state = "ready"
			}
			for _, c := range n.Conditions {
				state += "," + string(c.Type)
			}
			row(n.Name, state, n.Replicas,
				fmt.Sprintf("%s/%s", n.Reserved.CPU, n.Allocatable.CPU), fmt.Sprintf("%s/%s", n.Reserved.Memory, n.Allocatable.Memory),
				n.Podman, strings.Join(n.Addresses, ","))
		}
	})
}

func printServices(out io.Writer, services []resources.ServiceStatus) {
	table(out, "SERVICE STATE READY REVISION IMAGE PUBLISHED", func(row func(...any)) {
		for _, s := range services {
			var published []string
			for _, r := range s.Replicas {
				published = append(published, r.Published...)
			}
			row(s.Service.Name, s.State, fmt.Sprintf("%d/%d", s.Ready, s.Service.Replicas), s.Revision, s.Service.Image, strings.Join(published, ","))
		}
	})
	table(out, "REPLICA NODE STATE RESTARTS REASON", func(row func(...any)) {
		for _, s := range services {
			for _, r := range s.Replicas {
				row(r.ID, r.NodeName, r.Status.State, r.Status.Restarts, strings.TrimSpace(string(r.Status.Reason)+" "+r.Status.Message))
			}
		}
	})
}

func printEvents(out io.Writer, events []resources.Event) {
	table(out, "TIME OBJECT REASON COUNT MESSAGE", func(row func(...any)) {
		for _, e := range events {
			row(e.Time.Local().Format(time.TimeOnly), e.Object, e.Reason, e.Count, e.Message)
		}
	})
}
