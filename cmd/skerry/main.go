// Command skerry is the control plane and the node agent in one program.
//
// On a node, systemd runs `skerry agent` and, where the node is a server,
// `skerry server`; the first boot runs `skerry firstboot`. On any machine with
// Podman, `skerry dev` runs both in the foreground. The other commands are for
// people who look after a cluster: on one of its servers, or from afar.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/firstboot"
	"github.com/skerry-io/skerry/podmanruntime"
)

var _ agent.Runtime = (*podmanruntime.Runtime)(nil)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := command(os.Stdout, os.Stderr).ExecuteContext(ctx)
	var ended exitError
	switch {
	case err == nil:
	case errors.As(err, &ended):
		os.Exit(int(ended)) //nolint:gocritic // nothing is left to stop
	case errors.Is(err, context.Canceled):
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "skerry:", err)
		os.Exit(1)
	}
}

// command is the whole command line, for main and for tests.
func command(out, logs io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "skerry", Version: version,
		Short:        "Nodes, and self-healing services on them",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetOut(out)
	debug := root.PersistentFlags().Bool("debug", os.Getenv("SKERRY_DEBUG") != "", "log every step")
	logger := func() *slog.Logger {
		level := slog.LevelInfo
		if *debug {
			level = slog.LevelDebug
		}
		return slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))
	}
	for _, make := range []func(func() *slog.Logger) *cobra.Command{
		firstbootCommand, adoptCommand, abandonCommand, agentCommand, serverCommand, devCommand, clusterCommand,
		statusCommand, nodesCommand, servicesCommand, networksCommand, replicasCommand, eventsCommand,
		logsCommand, execCommand, drainCommand, cordonCommand, uncordonCommand, rebalanceCommand, leaveCommand, nodeCommand, volumeCommand,
		secretsCommand, configsCommand, autoscaleCommand,
	} {
		root.AddCommand(make(logger))
	}
	root.AddCommand(renewCommand(), dialCommand(), tunnelCommand(logger), dnsCommand(logger))
	return root
}

func firstbootCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "firstboot", Short: "Make this machine the node of its seed disk", Args: cobra.NoArgs, Hidden: true}
	seed := c.Flags().String("seed", "", "directory where the seed disk is mounted")
	c.RunE = func(c *cobra.Command, _ []string) error { return firstboot.Run(c.Context(), *seed, logger()) }
	if err := c.MarkFlagRequired("seed"); err != nil {
		panic(err) // the flag stands above
	}
	return c
}

// places are the directories of a node.
type places struct {
	data, run      string
	podman         string
	authorizedKeys string
	// alone is true where no other machine can join.
	alone bool
	// address by which others reach this machine, where it is not that of its
	// first network card.
	address  string
	registry string
	// registriesConf is the file by which Podman learns how registries are reached.
	registriesConf string
}

func (p *places) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.data, "data", firstboot.Data, "directory for what outlives the machine's root disk")
	c.Flags().StringVar(&p.run, "run", "/run/skerry", "directory for sockets")
}

func (p *places) registriesFlag(c *cobra.Command) {
	c.Flags().StringVar(&p.registriesConf, "registries-conf", "/etc/containers/registries.conf.d/50-skerry.conf", "file by which Podman learns how the cluster reaches registries")
}

func agentCommand(logger func() *slog.Logger) *cobra.Command {
	var p places
	c := &cobra.Command{Use: "agent", Short: "Run the agent of this node", Args: cobra.NoArgs}
	p.flags(c)
	c.Flags().StringVar(&p.podman, "podman", "unix:///run/podman/podman.sock", "Podman's socket")
	c.Flags().StringVar(&p.authorizedKeys, "authorized-keys", "/root/.ssh/authorized_keys", "file of the keys that may log in")
	c.Flags().StringVar(&p.registry, "registry", agent.RegistryAddress, "loopback address of the cluster's registry")
	p.registriesFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		log := logger()
		return runAgent(c.Context(), p, &systemdControlPlane{places: p, log: log}, systemdUnits{}, log)
	}
	return c
}

func serverCommand(logger func() *slog.Logger) *cobra.Command {
	var p places
	c := &cobra.Command{Use: "server", Short: "Run the control plane of this node's cluster", Args: cobra.NoArgs}
	p.flags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cluster, found, err := agent.Cluster(p.data)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("this node belongs to no cluster: %s has no cluster.json", p.data)
		}
		if cluster.Server == nil {
			return fmt.Errorf("this node is a worker of cluster %s, and runs no control plane", cluster.Name)
		}
		return runServer(c.Context(), p, cluster, notifySystemd, logger())
	}
	return c
}
