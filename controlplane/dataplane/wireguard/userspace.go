package wireguard

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/skerry-io/skerry/resources"
)

// settingsFile is what the process follows: a `set` operation of WireGuard's
// cross-platform userspace interface, with all that the interface is to have.
const settingsFile = "tunnel.conf"

// uapi writes the settings as the cross-platform interface has them.
func (s settings) uapi() string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%s\nlisten_port=%d\n", hex.EncodeToString(s.key[:]), resources.WireGuardPort)
	for _, p := range s.peers {
		fmt.Fprintf(&b, "public_key=%s\nendpoint=%s\nreplace_allowed_ips=true\n", hex.EncodeToString(p.key[:]), p.endpoint)
		for _, a := range p.allowed {
			fmt.Fprintf(&b, "allowed_ip=%s\n", a.String())
		}
	}
	return b.String()
}

// change is what leads from one text of settings to another: an operation that
// touches no peer which both have alike.
func change(from, to string) string {
	before, after := sections(from), sections(to)
	var b strings.Builder
	for _, s := range after.all {
		if before.text[s] != after.text[s] {
			b.WriteString(after.text[s])
		}
	}
	for _, s := range before.all {
		if _, stays := after.text[s]; !stays && s != "" {
			fmt.Fprintf(&b, "public_key=%s\nremove=true\n", s)
		}
	}
	return b.String()
}

// section is a text of settings by peer; that of the interface has no name.
type section struct {
	all  []string
	text map[string]string
}

func sections(text string) section {
	s := section{text: map[string]string{}}
	name := ""
	for line := range strings.Lines(text) {
		if key, found := strings.CutPrefix(strings.TrimSpace(line), "public_key="); found {
			name = key
		}
		if _, known := s.text[name]; !known {
			s.all = append(s.all, name)
		}
		s.text[name] += line
	}
	return s
}

// Run has WireGuard on a tun in the present network namespace, and follows the
// settings in dir until ctx ends. The interface goes with it.
func Run(ctx context.Context, dir string, log *slog.Logger) error {
	changes, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	defer changes.Close() //nolint:errcheck // it was read
	if err := changes.Add(dir); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	link, err := tun.CreateTUN(Interface, device.DefaultMTU)
	if err != nil {
		return fmt.Errorf("make network interface %s: %w", Interface, err)
	}
	// Who sets the interface up waits for this: its MTU is set by now.
	if err := sign(); err != nil {
		link.Close() //nolint:errcheck // the first error counts
		return err
	}
	// What it says of a peer that does not answer, it says each few seconds.
	quiet := &device.Logger{Verbosef: device.DiscardLogf, Errorf: func(format string, args ...any) {
		log.Debug(fmt.Sprintf(format, args...))
	}}
	d := device.NewDevice(link, conn.NewDefaultBind(), quiet)
	defer d.Close()
	if err := d.Up(); err != nil {
		return fmt.Errorf("start WireGuard on %s: %w", Interface, err)
	}
	applied := ""
	for {
		if err := follow(d, filepath.Join(dir, settingsFile), &applied); err != nil {
			log.Error("the settings of the tunnel are not followed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.Wait():
			return errors.New("WireGuard has ended: its network interface is gone")
		case err := <-changes.Errors:
			return fmt.Errorf("watch %s: %w", dir, err)
		case <-changes.Events:
		}
	}
}

// alias says that the interface is the process's to use, and others' to set up.
const alias = "skerry tunnel"

func sign() error {
	link, err := netlink.LinkByName(Interface)
	if err == nil {
		err = netlink.LinkSetAlias(link, alias)
	}
	// The kernel tells of an alias only where the interface is up.
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("mark network interface %s: %w", Interface, err)
	}
	return nil
}

// follow applies what has changed in the settings since they were applied. Where
// there are none any more, all stays as it is: whoever removes them ends this
// process.
func follow(d *device.Device, path string, applied *string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	operation := change(*applied, string(text))
	if operation == "" {
		return nil
	}
	if err := d.IpcSetOperation(bytes.NewReader([]byte(operation))); err != nil {
		return fmt.Errorf("apply the settings: %w", err) // with no key in it
	}
	*applied = string(text)
	return nil
}
