package store

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
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

// Member is how this process takes part in the store.
type Member struct {
	// Dir holds the data.
	Dir string
	// Run is a directory for unix sockets, and has to be short: the path of one
	// has at most 107 bytes.
	Run string
	// Node that the member runs on.
	Node resources.NodeID
	// Peer is where other members reach this one, host:port. It is empty for a
	// store that stays alone.
	Peer string
	// PKI is the directory with node.crt, node.key and ca.crt, by which members
	// know each other. They are read for each connection.
	PKI string
	// Join holds the addresses of all members by node, this one's included, of
	// the store that is joined at the first start. It is empty for a new store.
	Join map[resources.NodeID]string
}

// OpenEtcd starts the member, and returns once it answers: for one that joins,
// once it has caught up enough to be read from.
func OpenEtcd(ctx context.Context, m Member, log *slog.Logger) (*Etcd, error) {
	config, level := m.config()
	member, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("start the store in %s: %w", m.Dir, err)
	}
	select {
	case <-member.Server.ReadyNotify():
	case err := <-member.Err():
		member.Close()
		return nil, fmt.Errorf("start the store in %s: %w", m.Dir, err)
	case <-ctx.Done():
		member.Close()
		return nil, fmt.Errorf("wait for the store in %s: %w", m.Dir, context.Cause(ctx))
	}
	log.Info("the store is open", "dir", m.Dir)
	return &Etcd{member: member, client: v3client.New(member.Server), level: level}, nil
}

func (m Member) config() (*embed.Config, zap.AtomicLevel) {
	config := embed.NewConfig()
	config.Name = string(m.Node)
	config.Dir = m.Dir
	level := zap.NewAtomicLevelAt(zap.ErrorLevel)
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(zapcore.NewCore(
		zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(os.Stderr), level)))
	// Its only client is this process.
	client := url.URL{Scheme: "unix", Path: filepath.Join(m.Run, "etcd.sock")}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(m.Run, "etcd-peer.sock")}
	listen := peer
	if m.Peer != "" {
		peer = peerURL(m.Peer)
		// The address may be one that the machine has at times only.
		listen = url.URL{Scheme: "https", Host: net.JoinHostPort("0.0.0.0", peer.Port())}
		config.PeerTLSInfo = transport.TLSInfo{
			CertFile: filepath.Join(m.PKI, "node.crt"), KeyFile: filepath.Join(m.PKI, "node.key"), TrustedCAFile: filepath.Join(m.PKI, "ca.crt"),
			ClientCertAuth: true,
			// Certificates name nodes, and not their addresses; and only those of
			// servers have this name.
			ServerName: pki.ServerName, AllowedHostnames: []string{pki.ServerName}, SkipClientSANVerify: true,
		}
	}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{listen}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	if len(m.Join) > 0 {
		config.ClusterState = embed.ClusterStateFlagExisting
		var all []string
		for _, node := range slices.Sorted(maps.Keys(m.Join)) {
			address := peerURL(m.Join[node])
			all = append(all, string(node)+"="+address.String())
		}
		config.InitialCluster = strings.Join(all, ",")
	}
	// Old revisions go after an hour; 2 GiB is etcd's own default quota.
	config.AutoCompactionMode = "periodic"
	config.AutoCompactionRetention = "1h"
	config.QuotaBackendBytes = 2 << 30
	return config, level
}

func peerURL(address string) url.URL { return url.URL{Scheme: "https", Host: address} }

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
	return e.commit(ctx, nil, from, changes)
}

// commit writes the changes while the guards hold.
func (e *Etcd) commit(ctx context.Context, guards []clientv3.Cmp, from *State, changes []Change) error {
	for _, batch := range batches(changes, BatchSize-len(guards)) {
		compares := slices.Clone(guards)
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
func batches(changes []Change, size int) [][]Change {
	return slices.Collect(slices.Chunk(changes, size))
}
