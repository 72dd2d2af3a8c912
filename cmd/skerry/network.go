package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/dataplane"
	"github.com/skerry-io/skerry/controlplane/dataplane/wireguard"
	"github.com/skerry-io/skerry/controlplane/dns"
	"github.com/skerry-io/skerry/resources"
)

// networkDir is where the agent keeps what a reboot may take of the networks,
// and what their processes follow.
func (p places) networkDir() string { return filepath.Join(p.run, "network") }

func (p places) namespaces() string { return filepath.Join(p.networkDir(), dataplane.Namespaces) }

// network is the node's part of the cluster's networks; nil where this process
// may not change the machine's network.
func (p places) network(units dataplane.Units, log *slog.Logger) (agent.Network, error) {
	if os.Geteuid() != 0 {
		log.Info("without root, replicas run on Podman's own network, and reach each other by published ports only")
		return nil, nil
	}
	if out, err := exec.Command("nft", "--version").CombinedOutput(); err != nil {
		log.Warn("without nft, replicas run on Podman's own network, and reach each other by published ports only; install the package nftables", "err", err, "said", string(out))
		return nil, nil
	}
	node, err := agent.Node(p.data)
	if err != nil {
		return nil, err
	}
	return dataplane.New(dataplane.Config{
		Dir: p.networkDir(), Key: filepath.Join(p.data, "agent", "wireguard.key"), Node: node.ID, Underlay: p.underlay, Units: units, Log: log,
	})
}

// underlay is the address by which other nodes reach this one.
func (p places) underlay() (netip.Addr, error) {
	text := p.address
	if all := agent.Addresses(); text == "" && len(all) > 0 {
		text = all[0]
	}
	if text == "" && p.alone {
		return netip.IPv4Unspecified(), nil // nobody else is there
	}
	if text == "" {
		return netip.Addr{}, errors.New("no network card is up")
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the node's address: %w", err)
	}
	return address, nil
}

// dnsCommand is a process of its own, so that names are answered while the agent
// is away.
func dnsCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "dns", Short: "Answer the names of services to the replicas of this node", Args: cobra.NoArgs, Hidden: true}
	dir := c.Flags().String("dir", "", "directory of the names, which the agent writes")
	c.RunE = func(c *cobra.Command, _ []string) error {
		forgetStart(logger())
		return dns.Run(c.Context(), dns.Config{
			File: filepath.Join(*dir, dataplane.File), Listen: netip.AddrPortFrom(resources.NodeResolver, 53), ResolvConf: "/etc/resolv.conf", Log: logger(),
		})
	}
	if err := c.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag stands above
	}
	return c
}

// tunnelCommand is a process of its own, so that a restart of the agent leaves
// the tunnel alone.
func tunnelCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "tunnel", Short: "Have WireGuard in this process, for a kernel without", Args: cobra.NoArgs, Hidden: true}
	dir := c.Flags().String("dir", "", "directory of the settings, which the agent writes")
	c.RunE = func(c *cobra.Command, _ []string) error {
		forgetStart(logger())
		return wireguard.Run(c.Context(), *dir, logger())
	}
	if err := c.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag stands above
	}
	return c
}
