package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/resources"
)

// devCommand runs a node in the foreground: its agent, and the control plane
// once a skerry_cluster, or --cluster, asks for it.
func devCommand(logger func() *slog.Logger) *cobra.Command {
	var p places
	c := &cobra.Command{
		Use: "dev", Short: "Run a node in the foreground, over the Podman of this machine", Args: cobra.NoArgs,
		Long: "Run a node in the foreground, over the Podman of this machine: no VM, for trying things out.\n" +
			"It prints the endpoint that `servers` of a skerry_cluster takes.",
	}
	dir := c.Flags().String("dir", "", "directory for everything that skerry keeps (default $XDG_STATE_HOME/skerry-dev)")
	name := c.Flags().String("cluster", "", "run the control plane of a cluster of this name at once")
	c.Flags().StringVar(&p.podman, "podman", "unix:///run/podman/podman.sock", "Podman's socket")
	c.Flags().StringVar(&p.registry, "registry", "127.0.0.1:5055", "loopback address of the cluster's registry")
	p.registriesFlag(c)
	c.Flags().StringVar(&p.address, "address", "", "IP address by which other machines reach this one; without it, it is a cluster of its own")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *dir == "" {
			*dir = stateDirectory()
		}
		absolute, err := filepath.Abs(*dir)
		if err != nil {
			return fmt.Errorf("find --dir: %w", err)
		}
		p.alone = p.address == ""
		p.data, p.run = filepath.Join(absolute, "data"), filepath.Join(absolute, "run")
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the name of this machine: %w", err)
		}
		node, err := agent.InitNode(p.data, resources.NodeFile{ID: resources.NodeID(newID()), Name: host})
		if err != nil {
			return err
		}
		log := logger()
		control := &localControlPlane{places: p, log: log, base: c.Context()}
		defer control.close()
		if err := startDevCluster(c, p, control, *name); err != nil {
			return err
		}
		endpoint := resources.Endpoint{Socket: p.socket(filepath.Base(resources.AgentSocket)), Node: node.ID}
		c.Println(endpoint)
		units := &childUnits{dir: p.networkDir(), log: log}
		defer units.close()
		return runAgent(c.Context(), p, control, units, log)
	}
	return c
}

// startDevCluster starts the control plane where there is one already, or where
// the user asks for one.
func startDevCluster(c *cobra.Command, p places, control *localControlPlane, name string) error {
	cluster, found, err := agent.Cluster(p.data)
	if err != nil {
		return err
	}
	if !found && name == "" || found && cluster.Server == nil {
		return nil // it is in no cluster yet, or a worker
	}
	if !found {
		cluster = resources.ClusterConfig{ID: resources.ClusterID(newID()), Name: name, Server: &resources.ServerConfig{}}
		if err := agent.PutCluster(p.data, cluster); err != nil {
			return err
		}
	}
	return control.Start(c.Context(), cluster)
}

func stateDirectory() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "skerry-dev")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "skerry-dev"
	}
	return filepath.Join(home, ".local", "state", "skerry-dev")
}

// newID draws an ID of a node or a cluster.
func newID() string {
	var id [8]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
