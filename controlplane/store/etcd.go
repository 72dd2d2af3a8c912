package store

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// prefix is where everything of skerry's stands in etcd, with the version of
// the layout.
const prefix = "/skerry/v1/"

// Etcd is a Store on an etcd member that runs in this process.
type Etcd struct {
	member *embed.Etcd
	client *clientv3.Client
	level  zap.AtomicLevel
	closed sync.Once
}

var _ Store = (*Etcd)(nil)

// OpenEtcd starts the member that keeps its data in dir, and returns once it
// answers. Its sockets are in run, which has to be short: a unix socket's path
// has at most 107 bytes.
func OpenEtcd(ctx context.Context, dir, run string, log *slog.Logger) (*Etcd, error) {
	config := embed.NewConfig()
	config.Name = "server"
	config.Dir = dir
	level := zap.NewAtomicLevelAt(zap.ErrorLevel)
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(zapcore.NewCore(
		zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(os.Stderr), level)))
	// One member has no peers, and its only client is this process.
	client := url.URL{Scheme: "unix", Path: filepath.Join(run, "etcd.sock")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(run, "etcd-peer.sock")}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// Old revisions go after an hour; 2 GiB is etcd's own default quota.
	config.AutoCompactionMode = "periodic"
	config.AutoCompactionRetention = "1h"
	config.QuotaBackendBytes = 2 << 30
	member, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("start the store in %s: %w", dir, err)
	}
	select {
	case <-member.Server.ReadyNotify():
	case err := <-member.Err():
		member.Close()
		return nil, fmt.Errorf("start the store in %s: %w", dir, err)
	case <-ctx.Done():
		member.Close()
		return nil, fmt.Errorf("wait for the store in %s: %w", dir, context.Cause(ctx))
	}
	log.Info("the store is open", "dir", dir)
	return &Etcd{member: member, client: v3client.New(member.Server), level: level}, nil
}

// Close stops the member. Everything that was committed is on the disk.
func (e *Etcd) Close() {
	e.closed.Do(func() {
		// etcd reports its own closing as errors.
		e.level.SetLevel(zap.FatalLevel)
		e.client.Close() //nolint:errcheck // it ends with the member
		e.member.Close()
	})
}

// Err tells where the member ended by itself.
func (e *Etcd) Err() <-chan error { return e.member.Err() }

// Load returns a snapshot.
func (e *Etcd) Load(ctx context.Context) (*State, error) {
	response, err := e.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read the store: %w", err)
	}
	state := newState()
	state.Revision = response.Header.Revision
	for _, kv := range response.Kvs {
		if err := state.add(strings.TrimPrefix(string(kv.Key), prefix), kv.Value, kv.ModRevision); err != nil {
			return nil, err
		}
	}
	return state, nil
}

// Commit writes the changes.
func (e *Etcd) Commit(ctx context.Context, from *State, changes []Change) error {
	for _, batch := range batches(changes) {
		var compares []clientv3.Cmp
		var operations []clientv3.Op
		for _, c := range batch {
			key := prefix + c.key
			compares = append(compares, clientv3.Compare(clientv3.ModRevision(key), "=", from.version(c.key)))
			if c.value == nil {
				operations = append(operations, clientv3.OpDelete(key))
				continue
			}
			text, err := c.encode()
			if err != nil {
				return err
			}
			operations = append(operations, clientv3.OpPut(key, string(text)))
		}
		response, err := e.client.Txn(ctx).If(compares...).Then(operations...).Commit()
		if err != nil {
			return fmt.Errorf("write to the store: %w", err)
		}
		if !response.Succeeded {
			return ErrStale
		}
	}
	return nil
}

// Watch tells of changes.
func (e *Etcd) Watch(ctx context.Context) <-chan struct{} {
	watcher := make(chan struct{}, 1)
	wake(watcher)
	go func() {
		for ctx.Err() == nil {
			// etcd watches from a moment after this call. Its notice of that
			// moment wakes for what was written before it.
			options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCreatedNotify()}
			for range e.client.Watch(clientv3.WithRequireLeader(ctx), prefix, options...) {
				wake(watcher)
			}
			// A watch that broke off may have missed something.
			wake(watcher)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return watcher
}

// batches cuts changes into runs that can be committed as one.
func batches(changes []Change) [][]Change {
	return slices.Collect(slices.Chunk(changes, BatchSize))
}
