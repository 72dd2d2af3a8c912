// Package dataplane makes the cluster's networks on one node.
//
// The control plane says what there is (resources.NetworkMap) and the agent what
// runs here; Apply makes the node so, whole, each time: first what may pass
// (package rules), then what it passes on (package links: namespaces, veths,
// routes, tunnels), then what it is called (a file for the process that answers
// DNS). Each of them changes only what differs, so that a repeated Apply, or one
// after a restart of the agent, drops no packet.
package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/skerry-io/skerry/controlplane/atomicfile"
	"github.com/skerry-io/skerry/controlplane/dataplane/links"
	"github.com/skerry-io/skerry/controlplane/dataplane/rules"
	"github.com/skerry-io/skerry/controlplane/dataplane/wireguard"
	"github.com/skerry-io/skerry/resources"
)

// Units are the processes beside the agent, which outlive it.
type Units interface {
	// Start makes `skerry COMMAND --dir DIR` run, if it does not.
	Start(ctx context.Context, command string) error
	// Stop ends it; one that does not run is no error.
	Stop(ctx context.Context, command string) error
}

// The commands of the units.
const (
	dnsCommand    = "dns"
	tunnelCommand = "tunnel"
)

// File is what the process that answers DNS follows, in Config.Dir: a
// resources.NodeNetwork as JSON.
const File = "network.json"

// Namespaces is the directory of the replicas' network namespaces, in Config.Dir.
const Namespaces = "netns"

// Config is what a Dataplane is made of.
type Config struct {
	// Dir is for what a reboot may take: namespaces, and the files that the units
	// follow.
	Dir string
	// Key is the file of the node's WireGuard key, which outlives the machine's
	// root disk.
	Key  string
	Node resources.NodeID
	// Underlay is the address by which other nodes reach this one.
	Underlay func() (netip.Addr, error)
	Units    Units
	Log      *slog.Logger
}

// Dataplane is the part of the cluster's networks that is on this node, in the
// network namespace that it is used in. It belongs to one goroutine at a time.
type Dataplane struct {
	Config
	overlay  resources.NodeOverlay
	firewall rules.Firewall
	links    *links.Links
	written  resources.NodeNetwork // what File holds
	named    bool                  // the unit of names was started
}

// New makes a Dataplane, and the node's key where there is none. Nothing else is
// changed before Apply.
func New(c Config) (*Dataplane, error) {
	key, err := wireguard.LoadKey(c.Key)
	if err != nil {
		return nil, err
	}
	tunnel := &wireguard.Device{
		Key: key, Dir: c.Dir,
		Start: func(ctx context.Context) error { return c.Units.Start(ctx, tunnelCommand) },
		Stop:  func(ctx context.Context) error { return c.Units.Stop(ctx, tunnelCommand) },
	}
	return &Dataplane{
		Config:  c,
		overlay: resources.NodeOverlay{PublicKey: key.PublicKey().String()},
		links: links.New(links.Config{
			Dir: filepath.Join(c.Dir, Namespaces), Node: c.Node, Underlay: c.Underlay, Tunnel: tunnel, Log: c.Log,
		}),
	}, nil
}

// Overlay is what other nodes have to know of this one.
func (d *Dataplane) Overlay() resources.NodeOverlay { return d.overlay }

// Apply makes the node's networks what they are to be, whole. It is idempotent. A
// node that is on no network yet is left as it is.
func (d *Dataplane) Apply(ctx context.Context, n resources.NodeNetwork) error {
	if len(n.Map.Networks) == 0 && len(n.Replicas) == 0 && d.untouched() {
		return nil
	}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the networks: %w", err)
	}
	if err := d.firewall.Apply(ctx, n); err != nil {
		return err
	}
	if err := d.links.Apply(ctx, n); err != nil {
		return err
	}
	return d.name(ctx, n)
}

// Obstacle says which chains of other tables keep packets from replicas, and what
// to do about it; nothing where none does.
func (d *Dataplane) Obstacle(ctx context.Context) (string, error) {
	drops, err := rules.ForwardDrops(ctx)
	if err != nil || len(drops) == 0 {
		return "", err
	}
	var chains, ways []string
	for _, c := range drops {
		chains = append(chains, c.String())
		ways = append(ways, wayThrough(c))
	}
	return fmt.Sprintf("the machine's packet filter drops what replicas send and get (%s): let it pass there, as by `%s`, and keep that across a reboot",
		strings.Join(chains, ", "), strings.Join(ways, "; ")), nil
}

// wayThrough are the commands that let packets of replicas pass a chain.
func wayThrough(c rules.ForwardDrop) string {
	if c.String() == "ip filter FORWARD" { // that of iptables
		return "for i in skr-+ skerry-+; do iptables -I FORWARD -i $i -j ACCEPT; iptables -I FORWARD -o $i -j ACCEPT; done"
	}
	return fmt.Sprintf(`for d in iifname oifname; do for i in skr skerry; do nft "insert rule %s $d $i-* accept"; done; done`, c)
}

// untouched is true where nothing was ever applied.
func (d *Dataplane) untouched() bool {
	_, err := os.Stat(filepath.Join(d.Dir, File))
	return errors.Is(err, fs.ErrNotExist)
}

// name tells who answers DNS what there is.
func (d *Dataplane) name(ctx context.Context, n resources.NodeNetwork) error {
	if !d.named || !reflect.DeepEqual(d.written, n) {
		text, err := json.Marshal(n)
		if err == nil {
			err = atomicfile.Write(filepath.Join(d.Dir, File), text)
		}
		if err != nil {
			return fmt.Errorf("write the names of the networks: %w", err)
		}
		d.written = n
	}
	if !d.named {
		if err := d.Units.Start(ctx, dnsCommand); err != nil {
			return fmt.Errorf("start the name server of the networks: %w", err)
		}
		d.named = true
	}
	return nil
}

// Remove removes all that Apply ever made, whoever called it. The key stays.
func (d *Dataplane) Remove(ctx context.Context) error {
	if d.untouched() {
		return nil
	}
	err := errors.Join(d.Units.Stop(ctx, dnsCommand), d.links.Remove(ctx), d.firewall.Remove(ctx))
	if err != nil {
		return err
	}
	d.named, d.written = false, resources.NodeNetwork{}
	for _, name := range []string{File, Namespaces} {
		if err := os.RemoveAll(filepath.Join(d.Dir, name)); err != nil {
			return fmt.Errorf("remove the files of the networks: %w", err)
		}
	}
	return nil
}
