package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// Snapshot writes everything that the store holds, as of one moment, in etcd's
// own form: the state, the secrets and who leads. Restore reads it.
func (e *Etcd) Snapshot(ctx context.Context, w io.Writer) error {
	stream, err := e.client.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("save a snapshot of the store: %w", err)
	}
	_, err = io.Copy(w, stream)
	if err := errors.Join(err, stream.Close()); err != nil {
		return fmt.Errorf("save a snapshot of the store: %w", err)
	}
	return nil
}

// Restore makes the data of a new store, with m as its only member, from the
// file of a snapshot, and OpenEtcd opens it. m.Dir must not exist yet; m.Join is
// not used. A file that is not whole is refused. It holds the former servers, and
// who led them, until BeginAnew.
func Restore(path string, m Member) error {
	m.Join = nil
	config, err := m.config(zap.NewAtomicLevelAt(zap.ErrorLevel))
	if err != nil {
		return fmt.Errorf("restore the store in %s: %w", m.Dir, err)
	}
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: path, OutputDataDir: m.Dir, OutputWALDir: filepath.Join(m.Dir, "member", "wal"),
		Name: config.Name, PeerURLs: []string{config.AdvertisePeerUrls[0].String()},
		InitialCluster: config.InitialCluster, InitialClusterToken: config.InitialClusterToken,
	})
	if err != nil {
		return fmt.Errorf("restore the store in %s from %s: %w", m.Dir, path, err)
	}
	return nil
}

// BeginAnew takes the former servers out of a restored store, and who led them,
// so that whoever opens it next is the first server.
func (e *Etcd) BeginAnew(ctx context.Context) error {
	state, err := e.Load(ctx)
	if err != nil {
		return err
	}
	var changes []Change
	for _, id := range slices.Sorted(maps.Keys(state.Servers)) {
		changes = append(changes, DeleteServer(id))
	}
	if err := e.Commit(ctx, state, changes); err != nil {
		return err
	}
	if _, err := e.client.Delete(ctx, electionPrefix+"/", clientv3.WithPrefix()); err != nil {
		return fmt.Errorf("forget who led the cluster: %w", err)
	}
	return nil
}
