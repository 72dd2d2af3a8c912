package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/snapshot"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func clusterCommand(logger func() *slog.Logger) *cobra.Command {
	snapshots := &cobra.Command{Use: "snapshot", Short: "Save what the control plane holds, and begin anew from it"}
	snapshots.AddCommand(saveCommand(logger), restoreCommand(logger))
	c := &cobra.Command{Use: "cluster", Short: "Look after a cluster as a whole"}
	c.AddCommand(snapshots)
	return c
}

func saveCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "save FILE", Short: "Save a snapshot of the control plane", Args: cobra.ExactArgs(1),
		Long: "Save a snapshot of the control plane to FILE, sealed with a passphrase: services, secrets, and the key of the\n" +
			"cluster's authority. Images that were pushed, and what volumes hold, are not in it.",
	}
	endpoint := c.Flags().String("endpoint", "unix://"+resources.ServerSocket, "endpoint of the cluster, as skerry_cluster gives it")
	key := c.Flags().String("ssh-key", "", "private key to log in with")
	secret := passphraseFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		endpoints, err := resources.ParseEndpoints(*endpoint)
		if err != nil {
			return err
		}
		passphrase, err := readPassphrase(c, *secret, true)
		if err != nil {
			return err
		}
		dialer := client.NewDialer(client.Options{Key: *key, Agent: true, Log: logger()})
		defer dialer.Close()
		size, err := save(c.Context(), dialer.Server(endpoints...), args[0], passphrase)
		if err != nil {
			return err
		}
		c.Printf("saved %s (%s)\n", args[0], resources.Bytes(size))
		return nil
	}
	return c
}

// save writes the file whole or not at all, and returns its size in bytes.
func save(ctx context.Context, control *client.Server, path, passphrase string) (size int64, err error) {
	cluster, err := control.Cluster(ctx)
	if err != nil {
		return 0, err
	}
	keys, err := control.Keys(ctx)
	if err != nil && !api.IsNotImplemented(err) { // a control plane of an earlier version seals nothing
		return 0, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, fmt.Errorf("write the snapshot: %w", err)
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it has its name by now
	defer file.Close()           //nolint:errcheck // it is on the disk by then
	about := snapshot.About{Cluster: cluster.ID, Name: cluster.Name, Version: version, Taken: time.Now().UTC(), Keys: keys.Keys}
	if err := snapshot.Seal(file, passphrase, about, func(w io.Writer) error { return control.Snapshot(ctx, w) }); err != nil {
		return 0, err
	}
	if after, err := control.Keys(ctx); err == nil && !sameKeys(keys, after) {
		return 0, errors.New("the sealing key was changed while the snapshot was taken; take it again")
	}
	if err := file.Sync(); err != nil {
		return 0, fmt.Errorf("write the snapshot: %w", err)
	}
	if size, err = file.Seek(0, io.SeekEnd); err != nil {
		return 0, fmt.Errorf("write the snapshot: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return 0, fmt.Errorf("write the snapshot: %w", err)
	}
	return size, nil
}

func sameKeys(a, b resources.Keyring) bool {
	return slices.EqualFunc(a.Keys, b.Keys, func(a, b resources.SealingKey) bool { return a.ID == b.ID })
}

func restoreCommand(logger func() *slog.Logger) *cobra.Command {
	var p places
	c := &cobra.Command{
		Use: "restore FILE", Short: "Make this node the first server of the cluster in a snapshot", Args: cobra.ExactArgs(1),
		Long: "Make this node, which is in no cluster, the first and only server of the cluster in a snapshot.\n" +
			"Its former servers must be gone for good: of two control planes each would think that it is the one.\n" +
			"Name this node in `servers` of the skerry_cluster afterwards; the next apply brings the rest.",
	}
	p.flags(c)
	secret := passphraseFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		log := logger()
		cluster, found, err := agent.Cluster(p.data)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("this node is in cluster %s (%s) already; restore on one that is in none", cluster.Name, cluster.ID)
		}
		passphrase, err := readPassphrase(c, *secret, false)
		if err != nil {
			return err
		}
		about, err := p.restore(c.Context(), args[0], passphrase, log)
		if err != nil {
			return err
		}
		dialer := client.NewDialer(client.Options{Log: log})
		defer dialer.Close()
		self := dialer.Agent(resources.Endpoint{Socket: p.socket(filepath.Base(resources.AgentSocket))})
		if err := self.Join(c.Context(), resources.Join{Cluster: resources.ClusterConfig{ID: about.Cluster, Name: about.Name}}); err != nil {
			return err
		}
		c.Printf("cluster %s (%s) runs here, as it was on %s\n", about.Name, about.Cluster, about.Taken.Format(time.RFC1123))
		return nil
	}
	return c
}

// restore makes this node's data that of the first server of the cluster in a
// snapshot. It can be done again where it was cut off.
func (p places) restore(ctx context.Context, path, passphrase string, log *slog.Logger) (snapshot.About, error) {
	node, err := agent.Node(p.data)
	if err != nil {
		return snapshot.About{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return snapshot.About{}, fmt.Errorf("open the snapshot: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was read
	about, data, err := snapshot.Open(file, passphrase)
	if err != nil {
		return about, err
	}
	// A directory of its own, that nobody else can read.
	work, err := os.MkdirTemp(p.data, ".restore-")
	if err != nil {
		return about, fmt.Errorf("restore the store: %w", err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // the next restore doesn't need it
	plain, err := os.Create(filepath.Join(work, "store"))
	if err == nil {
		_, err = io.Copy(plain, data)
		err = errors.Join(err, plain.Close())
	}
	if err != nil {
		return about, fmt.Errorf("restore the store: %w", err)
	}
	// It is made beside its place, alone, and takes it when it is done.
	alone := store.Member{Dir: filepath.Join(work, "etcd"), Run: p.run, Node: node.ID}
	if err := store.Restore(plain.Name(), alone); err != nil {
		return about, err
	}
	authority, err := beginAnew(ctx, alone, log)
	if err == nil && authority != nil {
		err = p.keepAuthority(authority)
	}
	if err == nil {
		err = p.keepKeys(about.Keys)
	}
	if err == nil {
		err = os.RemoveAll(p.etcd())
	}
	if err == nil {
		err = os.Rename(alone.Dir, p.etcd())
	}
	return about, err
}

// beginAnew makes a restored store one without servers, and gives the cluster's
// authority.
func beginAnew(ctx context.Context, m store.Member, log *slog.Logger) (authority []byte, err error) {
	etcd, err := store.OpenEtcd(ctx, m, log)
	if err != nil {
		return nil, err
	}
	defer etcd.Close()
	if err := etcd.BeginAnew(ctx); err != nil {
		return nil, err
	}
	return etcd.Secret(ctx, secretAuthority)
}

// passphraseEnv holds a passphrase for those who don't want it in a file.
const passphraseEnv = "SKERRY_PASSPHRASE"

func passphraseFlag(c *cobra.Command) *string {
	return c.Flags().String("passphrase-file", "", "file with the passphrase (default $"+passphraseEnv+", or asked for)")
}

// readPassphrase takes it from the file, the environment or the terminal, where
// a new one is asked for twice.
func readPassphrase(c *cobra.Command, path string, anew bool) (string, error) {
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read the passphrase: %w", err)
		}
		return string(bytes.TrimRight(text, "\r\n")), nil
	}
	if text := os.Getenv(passphraseEnv); text != "" {
		return text, nil
	}
	in, isFile := c.InOrStdin().(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		return "", fmt.Errorf("the snapshot is sealed with a passphrase: give it with --passphrase-file or in %s", passphraseEnv)
	}
	ask := func(what string) (string, error) {
		c.PrintErr(what)
		text, err := term.ReadPassword(int(in.Fd()))
		c.PrintErrln()
		return string(text), err
	}
	first, err := ask("Passphrase: ")
	if err != nil || !anew {
		return first, err
	}
	again, err := ask("Once more: ")
	if err == nil && again != first {
		err = errors.New("the two passphrases differ; try again")
	}
	return first, err
}
