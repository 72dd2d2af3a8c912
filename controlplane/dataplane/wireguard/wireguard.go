// Package wireguard is the encrypted way between nodes: one interface, skerry-wg,
// whose peers are the other nodes.
//
// It is the kernel's, where the kernel has WireGuard. Elsewhere a process of its
// own, `skerry tunnel` (userspace.go), has it on a tun of the same name; that
// process follows a file which a Device writes, and outlives who wrote it. Either
// way a change of the peers leaves the sessions of the others alone.
package wireguard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/skerry-io/skerry/controlplane/atomicfile"
	"github.com/skerry-io/skerry/resources"
)

// Interface is the name of the interface.
const Interface = "skerry-wg"

// LoadKey reads the node's private key, and makes it where there is none: for
// root only, at a path that outlives the machine's root disk. It never leaves the
// node.
func LoadKey(path string) (wgtypes.Key, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		key, err := wgtypes.ParseKey(strings.TrimSpace(string(text)))
		if err != nil {
			return key, fmt.Errorf("read the node's WireGuard key %s: %w", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return wgtypes.Key{}, fmt.Errorf("read the node's WireGuard key: %w", err)
	}
	key, err := wgtypes.GeneratePrivateKey()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = atomicfile.Write(path, []byte(key.String()+"\n"))
	}
	if err != nil {
		return key, fmt.Errorf("make the node's WireGuard key: %w", err)
	}
	return key, nil
}

// Device is the interface of this node. It belongs to one goroutine.
type Device struct {
	Key wgtypes.Key
	// Dir is the directory of the file that a process follows.
	Dir string
	// Start makes the process run that has the interface where the kernel has no
	// WireGuard, and Stop ends it.
	Start, Stop func(ctx context.Context) error
	// userspace is true once the kernel has said that it can't.
	userspace bool
}

// Up makes the interface exist with these peers, and returns once it does.
func (d *Device) Up(ctx context.Context, peers []resources.Peer) error {
	settings, err := settingsOf(d.Key, peers)
	if err != nil {
		return err
	}
	if !d.userspace {
		err := ensureKernel()
		if err == nil {
			err = settings.apply()
		}
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		d.userspace = true
	}
	if err := atomicfile.Write(filepath.Join(d.Dir, settingsFile), []byte(settings.uapi())); err != nil {
		return fmt.Errorf("write the settings of %s: %w", Interface, err)
	}
	if err := d.Start(ctx); err != nil {
		return fmt.Errorf("start WireGuard: %w", err)
	}
	return await(ctx)
}

// Down removes the interface; an absent one is no error.
func (d *Device) Down(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(d.Dir, settingsFile)); err == nil {
		if err := d.Stop(ctx); err != nil {
			return fmt.Errorf("stop WireGuard: %w", err)
		}
		if err := os.Remove(filepath.Join(d.Dir, settingsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the settings of %s: %w", Interface, err)
		}
	}
	link, err := netlink.LinkByName(Interface)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if missing := (netlink.LinkNotFoundError{}); err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("remove network interface %s: %w", Interface, err)
	}
	return nil
}

// ensureKernel makes the kernel's interface. The error is unix.EOPNOTSUPP where
// the kernel has no WireGuard.
func ensureKernel() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Interface
	err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		link, err := netlink.LinkByName(Interface)
		if err == nil && link.Type() != "wireguard" {
			return unix.EOPNOTSUPP // that of the process
		}
		return err
	}
	return fmt.Errorf("make network interface %s: %w", Interface, err)
}

// startPatience is how long the process may take until the interface is there,
// which is a fraction of a second.
const startPatience = 5 * time.Second

// await returns once the process has its interface.
func await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("`skerry tunnel` has not made it within %s", startPatience))
	defer cancel()
	updates, done := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	defer close(done)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return fmt.Errorf("wait for network interface %s: %w", Interface, err)
	}
	for {
		if link, err := netlink.LinkByName(Interface); err == nil && link.Attrs().Alias == alias {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for network interface %s: %w", Interface, context.Cause(ctx))
		case <-updates:
		}
	}
}

// settings are those of the interface.
type settings struct {
	key   wgtypes.Key
	peers []peer
}

type peer struct {
	key      wgtypes.Key
	endpoint *net.UDPAddr
	allowed  []net.IPNet
}

// settingsOf reads the peers. What a peer sends has to come from its own subnets.
func settingsOf(key wgtypes.Key, peers []resources.Peer) (settings, error) {
	s := settings{key: key}
	for _, p := range peers {
		public, err := wgtypes.ParseKey(p.PublicKey)
		if err != nil {
			return s, fmt.Errorf("read the WireGuard key of node %s: %w", p.Node, err)
		}
		one := peer{key: public, endpoint: &net.UDPAddr{IP: p.Address.AsSlice(), Port: resources.WireGuardPort}}
		for _, subnet := range p.Subnets {
			one.allowed = append(one.allowed, net.IPNet{
				IP: subnet.Subnet.Addr().AsSlice(), Mask: net.CIDRMask(subnet.Subnet.Bits(), subnet.Subnet.Addr().BitLen()),
			})
		}
		s.peers = append(s.peers, one)
	}
	return s, nil
}

// apply gives the settings to the kernel.
func (s settings) apply() error {
	control, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("set up %s: %w", Interface, err)
	}
	defer control.Close() //nolint:errcheck // it was asked
	there, err := control.Device(Interface)
	if err != nil {
		return fmt.Errorf("look at %s: %w", Interface, err)
	}
	port := resources.WireGuardPort
	change := wgtypes.Config{}
	if there.PrivateKey != s.key {
		change.PrivateKey = &s.key
	}
	if there.ListenPort != port {
		change.ListenPort = &port
	}
	for _, p := range s.peers {
		change.Peers = append(change.Peers, wgtypes.PeerConfig{PublicKey: p.key, Endpoint: p.endpoint, ReplaceAllowedIPs: true, AllowedIPs: p.allowed})
	}
	for _, old := range there.Peers {
		if !slices.ContainsFunc(s.peers, func(p peer) bool { return p.key == old.PublicKey }) {
			change.Peers = append(change.Peers, wgtypes.PeerConfig{PublicKey: old.PublicKey, Remove: true})
		}
	}
	if err := control.ConfigureDevice(Interface, change); err != nil {
		return fmt.Errorf("set up %s: %w", Interface, err)
	}
	return nil
}
