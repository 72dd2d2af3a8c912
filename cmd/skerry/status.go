package main

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// status is a cluster at a glance, as `skerry status --json` prints it.
type status struct {
	Cluster  resources.ClusterStatus   `json:"cluster"`
	Nodes    []resources.NodeStatus    `json:"nodes"`
	Services []resources.ServiceStatus `json:"services"`
}

func statusCommand(logger func() *slog.Logger) *cobra.Command {
	return lister("status", "Show a cluster at a glance: its servers, nodes and services", cobra.NoArgs, logger,
		func(c *cobra.Command, control *client.Server, _ []string) (s status, err error) {
			if s.Cluster, err = control.Cluster(c.Context()); err == nil {
				s.Nodes, err = control.Nodes(c.Context())
			}
			if err == nil {
				s.Services, err = control.Services(c.Context())
			}
			return s, err
		}, printStatus)
}

func printStatus(out io.Writer, s status) {
	names := map[resources.NodeID]string{}
	for _, n := range s.Nodes {
		names[n.ID] = n.Name
	}
	var servers []string
	for _, id := range s.Cluster.Members {
		name := names[id]
		if name == "" {
			name = string(id)
		}
		if id == s.Cluster.Leader {
			name += " (leads)"
		}
		servers = append(servers, name)
	}
	fmt.Fprintf(out, "Cluster %s (%s), servers: %s\n", s.Cluster.Name, s.Cluster.ID, strings.Join(servers, ", "))
	if s.Cluster.Waiting != "" {
		fmt.Fprintf(out, "Waits: %s\n", s.Cluster.Waiting)
	}
	fmt.Fprintln(out)
	printNodes(out, s.Nodes)
	fmt.Fprintln(out)
	printServices(out, s.Services)
	for _, service := range s.Services {
		for _, r := range service.Replicas {
			if why := trouble(r.Status); why != "" {
				fmt.Fprintf(out, "\n%s on %s: %s", r.ID, orNone(r.NodeName), why)
			}
		}
		if service.Message != "" {
			fmt.Fprintf(out, "\n%s: %s", service.Service.Name, firstLine(service.Message))
		}
	}
	fmt.Fprintln(out)
}

// trouble says in a line what is wrong with a replica; nothing where all is
// well.
func trouble(s resources.ReplicaStatus) string {
	text := strings.TrimSuffix(fmt.Sprintf("%s: %s", s.Reason, s.Message), ": ")
	return firstLine(strings.TrimPrefix(text, ": "))
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func orNone(text string) string {
	if text == "" {
		return "no node"
	}
	return text
}

func nodesCommand(logger func() *slog.Logger) *cobra.Command {
	return lister("nodes", "List the nodes", cobra.NoArgs, logger,
		func(c *cobra.Command, control *client.Server, _ []string) ([]resources.NodeStatus, error) {
			return control.Nodes(c.Context())
		}, printNodes)
}

func printNodes(out io.Writer, nodes []resources.NodeStatus) {
	table(out, "NODE STATE ROLE REPLICAS CPU MEMORY VERSION PODMAN ADDRESS ID", func(row func(...any)) {
		for _, n := range nodes {
			role := "worker"
			if n.Server {
				role = "server"
			}
			row(n.Name, nodeState(n), role, n.Replicas,
				fmt.Sprintf("%s/%s", n.Reserved.CPU, n.Allocatable.CPU), fmt.Sprintf("%s/%s", short(n.Reserved.Memory), short(n.Allocatable.Memory)),
				n.Version, n.Podman, strings.Join(n.Addresses, ","), n.ID)
		}
	})
}

// nodeState is whether the node is heard, what the control plane does with it,
// and what is wrong with it.
func nodeState(n resources.NodeStatus) string {
	state := []string{"silent"}
	if n.Ready {
		state[0] = "ready"
	}
	if n.Availability != resources.NodeActive {
		state = append(state, string(n.Availability))
	}
	for _, c := range n.Conditions {
		state = append(state, string(c.Type))
	}
	return strings.Join(state, ",")
}

func servicesCommand(logger func() *slog.Logger) *cobra.Command {
	return lister("services", "List the services", cobra.NoArgs, logger,
		func(c *cobra.Command, control *client.Server, _ []string) ([]resources.ServiceStatus, error) {
			return control.Services(c.Context())
		}, printServices)
}

func printServices(out io.Writer, services []resources.ServiceStatus) {
	table(out, "SERVICE STATE READY REVISION IMAGE PUBLISHED", func(row func(...any)) {
		for _, s := range services {
			var published []string
			for _, r := range s.Replicas {
				published = append(published, r.Published...)
			}
			row(s.Service.Name, s.State, fmt.Sprintf("%d/%d", s.Ready, s.Count), s.Revision, shortImage(s.Service.Image), strings.Join(published, ","))
		}
	})
}

func networksCommand(logger func() *slog.Logger) *cobra.Command {
	return lister("networks", "List the networks", cobra.NoArgs, logger,
		func(c *cobra.Command, control *client.Server, _ []string) ([]resources.NetworkStatus, error) {
			return control.Networks(c.Context())
		}, printNetworks)
}

func printNetworks(out io.Writer, networks []resources.NetworkStatus) {
	table(out, "NETWORK CIDR ENCRYPTION INTERNAL MTU SERVICES NODES", func(row func(...any)) {
		for _, n := range networks {
			mtu := ""
			if n.Network.MTU > 0 {
				mtu = strconv.Itoa(n.Network.MTU)
			}
			row(n.Network.Name, n.CIDR, n.Network.Encryption, n.Network.Internal, mtu, strings.Join(n.Services, ","), n.Nodes)
		}
	})
}

// short is a size for people: in the largest unit that leaves something before
// the point.
func short(b resources.Bytes) string {
	unit, names := float64(b), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; unit >= 1024 && i < len(names)-1; i++ {
		unit /= 1024
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", unit), ".0") + names[i]
}

// shortImage leaves so much of an image's reference as people tell it by.
func shortImage(reference string) string {
	reference = strings.TrimPrefix(reference, resources.Registry+"/")
	if name, digest, found := strings.Cut(reference, "@sha256:"); found {
		return name + "@" + digest[:min(len(digest), 12)]
	}
	return reference
}

// replicaRow is a replica with its service, as `skerry replicas --json` prints
// it.
type replicaRow struct {
	Service string `json:"service"`
	resources.ReplicaSummary
}

func replicasCommand(logger func() *slog.Logger) *cobra.Command {
	return lister("replicas [SERVICE]", "List the replicas, of all services or of one", cobra.MaximumNArgs(1), logger,
		func(c *cobra.Command, control *client.Server, args []string) ([]replicaRow, error) {
			services, err := control.Services(c.Context())
			if err != nil {
				return nil, err
			}
			if len(args) > 0 {
				one, err := oneOf("service", args[0], services, nameOfService)
				if err != nil {
					return nil, err
				}
				services = []resources.ServiceStatus{one}
			}
			return replicasOf(services), nil
		}, printReplicas)
}

func nameOfService(s resources.ServiceStatus) []string { return []string{s.Service.Name} }

func replicasOf(services []resources.ServiceStatus) []replicaRow {
	all := []replicaRow{}
	for _, s := range services {
		for _, r := range s.Replicas {
			all = append(all, replicaRow{s.Service.Name, r})
		}
	}
	return all
}

func printReplicas(out io.Writer, all []replicaRow) {
	table(out, "REPLICA NODE STATE REVISION RESTARTS AGE REASON", func(row func(...any)) {
		for _, r := range all {
			state := string(r.Status.State)
			if r.Status.State == resources.ReplicaRunning && !r.Status.NotReady {
				state = "ready"
			}
			age := ""
			if at := r.Status.StartedAt; !at.IsZero() {
				age = time.Since(at).Round(time.Second).String()
			}
			row(r.ID, orNone(r.NodeName), state, r.Revision, r.Status.Restarts, age, trouble(r.Status))
		}
	})
}

func eventsCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "events", Short: "Show what happened, the oldest first", Args: cobra.NoArgs,
		Long: "Show what happened, the oldest first. What repeats is shown once, with how often. The leader keeps the last 500;\n" +
			"another leader begins anew.",
	}
	r := reachFlags(c, logger)
	follow := c.Flags().BoolP("follow", "f", false, "go on with what happens from now on")
	asJSON := c.Flags().Bool("json", false, "print JSON, as the API has it; with --follow one event a line")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return r.with(func(control *client.Server) error {
			if *follow {
				return followEvents(c, control, *asJSON)
			}
			all, err := control.Events(c.Context())
			switch {
			case err != nil:
				return err
			case *asJSON:
				return printJSON(c.OutOrStdout(), all)
			}
			table(c.OutOrStdout(), "TIME OBJECT REASON COUNT MESSAGE", func(row func(...any)) {
				for _, e := range all {
					row(e.Time.Local().Format(time.DateTime), e.Object, e.Reason, e.Count, firstLine(e.Message))
				}
			})
			return nil
		})
	}
	return c
}

func followEvents(c *cobra.Command, control *client.Server, asJSON bool) error {
	shown := map[resources.Event]bool{}
	return control.WatchEvents(c.Context(), func(all []resources.Event) (bool, error) {
		for _, e := range all {
			if shown[e] {
				continue
			}
			shown[e] = true
			if asJSON {
				if err := printLine(c.OutOrStdout(), e); err != nil {
					return false, err
				}
				continue
			}
			fmt.Fprintf(c.OutOrStdout(), "%s  %s  %s  %s\n", e.Time.Local().Format(time.DateTime), e.Object, e.Reason, firstLine(e.Message))
		}
		return true, nil
	})
}
