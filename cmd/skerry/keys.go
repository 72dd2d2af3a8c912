package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/seal"
	"github.com/skerry-io/skerry/resources"
)

// keysFile has the keys that secrets are sealed with. The store has them not.
func (p places) keysFile() string { return filepath.Join(p.data, agent.PKIDir, "sealing.json") }

// fetchKeys takes the sealing keys of the leader before this server joins it for
// the first time: whoever is a member of the store has them.
func (m member) fetchKeys(ctx context.Context, p places, cluster resources.ClusterConfig) error {
	if _, err := os.Stat(p.etcd()); m.alone || len(cluster.Server.Join) == 0 || !errors.Is(err, fs.ErrNotExist) {
		return nil // it is a member already
	}
	c, err := agent.Credentials(p.data)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(cluster.Servers), func(a resources.ServerAddress) bool { return a.Node == m.self.Node })
	dialer := client.NewDialer(client.Options{})
	defer dialer.Close()
	keys, err := dialer.Member(func() (client.Way, error) { return client.Way{Servers: others, Credentials: c}, nil }).Keys(ctx)
	if api.IsNotImplemented(err) { // an earlier version leads, which seals nothing
		return nil
	}
	if err != nil {
		return fmt.Errorf("join the control plane: %w", err)
	}
	ring, err := seal.OpenRing(p.keysFile())
	if err != nil {
		return err
	}
	return ring.Change(keys)
}

// keepKeys keeps the sealing keys that a snapshot has brought.
func (p places) keepKeys(keys []resources.SealingKey) error {
	if len(keys) == 0 {
		return nil
	}
	ring, err := seal.OpenRing(p.keysFile())
	if err != nil {
		return err
	}
	return ring.Change(resources.Keyring{Keys: keys})
}
