package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/test/libvirttest"
)

// nodeImage is what `make image` builds, from the repository's root.
const nodeImage = "build/image/skerry-node-trixie.qcow2"

// nodeReady measures the boot of a node until its agent has answered, as the
// provider waits for it, against the boot of the same image without skerry
// until multi-user.target. Both count from the start of the VM's process, and
// both VMs are made alike, seed disk and all.
func nodeReady(ctx context.Context, notes io.Writer) (c comparison, err error) {
	if _, err := os.Stat(nodeImage); err != nil {
		return c, fmt.Errorf("the node image is missing, build it with make image: %w", err)
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return c, err
	}
	defer func() { err = keep(err, os.RemoveAll(dir)) }()
	b := booting{Plain: filepath.Join(dir, "plain.qcow2"), Key: filepath.Join(dir, "key")}
	if b.Ours, err = filepath.Abs(nodeImage); err != nil {
		return c, err
	}
	if err := plainImage(ctx, b.Ours, b.Plain); err != nil {
		return c, fmt.Errorf("make an image without skerry: %w", err)
	}
	if err := writeKey(b.Key); err != nil {
		return c, err
	}
	host, err := libvirttest.New(ctx)
	if err != nil {
		return c, err
	}
	defer func() { err = keep(err, host.Close()) }()
	b.URI, b.Pool, b.PoolDir, b.Network = host.URI, host.Pool, host.PoolDir, host.Network
	result, err := bootWithin(ctx, host, b, notes)
	if err != nil {
		return c, err
	}
	for i := range result.Ours {
		c.add(result.Ours[i], result.Plain[i])
	}
	fmt.Fprintf(notes, "  the last boot of a node:\n    %s\n", strings.ReplaceAll(strings.TrimSpace(result.Report), "\n", "\n    "))
	return c, nil
}

// bootWithin runs the command boots where VMs are reached.
func bootWithin(ctx context.Context, host *libvirttest.Host, b booting, notes io.Writer) (booted, error) {
	var result booted
	program, err := os.Executable()
	if err != nil {
		return result, err
	}
	args, err := json.Marshal(b)
	if err != nil {
		return result, err
	}
	inner := host.Command(ctx, program, bootsCommand, string(args))
	inner.Stderr = notes
	// Asked to end, it removes its VM; and the hypervisor takes what is left.
	inner.Cancel = func() error { return inner.Process.Signal(os.Interrupt) }
	output, err := inner.Output()
	if err != nil {
		return result, fmt.Errorf("boot VMs: %w", err)
	}
	if err := json.Unmarshal(output, &result); err != nil {
		return result, fmt.Errorf("read how long the boots took: %w", err)
	}
	return result, nil
}

// marker is what the image without skerry says on its console once it has
// reached multi-user.target.
const marker = "skerry-bench: multi-user.target"

// markerUnit says it with as little as can be: one program without a shell.
const markerUnit = `[Unit]
Description=Say that the boot is done
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=file:/dev/ttyS0
ExecStart=echo "` + marker + `"
[Install]
WantedBy=multi-user.target
`

// plainImage makes the image without skerry: its units are masked, and a marker
// is added. The file system of a node image is the whole disk, so that it
// changes without being mounted.
func plainImage(ctx context.Context, from, to string) error {
	raw, unit := to+".raw", to+".service"
	if err := os.WriteFile(unit, []byte(markerUnit), 0o644); err != nil {
		return err
	}
	const units, wanted = "/etc/systemd/system/", "/etc/systemd/system/multi-user.target.wants/"
	changes := []string{
		"cd " + wanted,
		"symlink skerry-bench.service " + units + "skerry-bench.service",
		"cd " + units,
		"write " + unit + " skerry-bench.service",
	}
	for _, name := range []string{"skerry-firstboot.service", "skerry-grow.service", "skerry-agent.service", "skerry-server.service"} {
		changes = append(changes, "rm "+name, "symlink "+name+" /dev/null")
	}
	script := to + ".debugfs"
	if err := os.WriteFile(script, []byte(strings.Join(changes, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"qemu-img", "convert", "-O", "raw", from, raw},
		{"debugfs", "-w", "-f", script, raw},
		// Packed as the node image is.
		{"qemu-img", "convert", "-c", "-O", "qcow2", raw, to},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return os.Remove(raw)
}

func writeKey(path string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "bench")
	if err != nil {
		return fmt.Errorf("make an SSH key: %w", err)
	}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}
