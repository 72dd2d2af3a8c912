package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
)

// ErrRemoved says that the other members have removed this one. It never takes
// part again with the data that it has: remove its directory before it joins
// anew.
var ErrRemoved = errors.New("this member has been removed from the store")

// Member is how this process takes part in the store.
type Member struct {
	// Dir holds the data. It is made where it is absent.
	Dir string
	// Run is a directory for unix sockets: that of clients, and that of peers
	// where the store stays alone. It has to be short: a socket's path has at
	// most 107 bytes.
	Run string
	// Node is etcd's name for the member. Where the store stays alone it may be
	// empty.
	Node resources.NodeID
	// Peer is the host:port at which other members reach this one; it listens
	// on that port of all addresses. Empty for a store that stays alone. A store
	// that was alone gets its address at the first start with one, and an
	// address that has changed is told to the others.
	Peer string
	// PKI is the directory of node.crt, node.key and ca.crt (PEM), by which
	// members know each other. They are read again for each connection, so that
	// a renewed certificate counts at once; ca.crt is read at the start only.
	// Used where Peer is set.
	PKI string
	// Join has the Peer addresses of all members of the cluster to join at the
	// first start, this one's included, by node. AddLearner has been called for
	// this one. Nil for a new cluster; it is not read where Dir has data.
	Join map[resources.NodeID]string

	quota int64 // of the file, in bytes; defaultQuota unless a test has another
}

// OpenEtcd starts the member and returns once it answers. One that stands in a
// cluster answers when a majority of its voters does; ctx bounds the wait. A
// member that was removed from its cluster is told apart by ErrRemoved.
func OpenEtcd(ctx context.Context, m Member, log *slog.Logger) (*Etcd, error) { //nolint:contextcheck // the store outlives the call
	level := zap.NewAtomicLevelAt(zap.ErrorLevel)
	config, err := m.config(level)
	if err != nil {
		return nil, fmt.Errorf("start the store in %s: %w", m.Dir, err)
	}
	member, err := start(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("start the store in %s: %w", m.Dir, err)
	}
	running, stop := context.WithCancel(context.Background())
	e := &Etcd{member: member, client: v3client.New(member.Server), log: log, level: level, ended: make(chan error, 1), full: make(chan struct{}, 1), stop: stop}
	e.done.Go(func() { e.watchEnd(running) })
	e.done.Go(func() { e.upkeep(running) })
	select {
	case <-member.Server.ReadyNotify():
		err = e.announce(ctx, config.AdvertisePeerUrls)
	case err = <-e.ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("start the store in %s: %w", m.Dir, err)
	}
	log.Info("the store is open", "dir", m.Dir, "peer", m.Peer)
	return e, nil
}

// joinPatience is how long a member that joins may find others that have not
// heard of it yet: AddLearner returns when the one that was asked knows.
const joinPatience = 5 * time.Second

// start starts etcd; a member that joins is patient.
func start(ctx context.Context, config *embed.Config) (*embed.Etcd, error) {
	patience := time.After(joinPatience)
	for {
		member, err := embed.StartEtcd(config)
		if err == nil || config.IsNewCluster() {
			return member, err
		}
		select {
		case <-time.After(joinPatience / 20):
		case <-patience:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// config is the member's in etcd's terms.
func (m Member) config(level zap.AtomicLevel) (*embed.Config, error) {
	config := embed.NewConfig()
	config.Name = cmp.Or(string(m.Node), "server")
	config.Dir = m.Dir
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(zapcore.NewCore(
		zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(os.Stderr), level)))
	// Its only client is this process; people find the socket with etcdctl.
	client := url.URL{Scheme: "unix", Path: filepath.Join(m.Run, "etcd.sock")}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	if err := m.configurePeers(config); err != nil {
		return nil, err
	}
	// A commit compares the leader's election key beside its own.
	config.MaxTxnOps = BatchSize + 1
	// Nor is a whole batch of large values too much: 10 MiB is the most that etcd
	// recommends.
	config.MaxRequestBytes = 10 << 20
	// Since a write may be large, few are kept in memory for members that lag;
	// those that lag more get the whole file.
	config.SnapshotCount, config.SnapshotCatchUpEntries = 1000, 1000
	// Old revisions go after an hour.
	config.AutoCompactionMode = "periodic"
	config.AutoCompactionRetention = "1h"
	config.QuotaBackendBytes = cmp.Or(m.quota, defaultQuota)
	return config, nil
}

func (m Member) configurePeers(config *embed.Config) error {
	if m.Peer == "" {
		peer := url.URL{Scheme: "unix", Path: filepath.Join(m.Run, "etcd-peer.sock")}
		config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		config.InitialCluster = config.InitialClusterFromName(config.Name)
		return nil
	}
	_, port, err := net.SplitHostPort(m.Peer)
	if err != nil {
		return fmt.Errorf("read the address for other members: %w", err)
	}
	config.ListenPeerUrls = []url.URL{{Scheme: "https", Host: net.JoinHostPort("0.0.0.0", port)}} // Go listens for IPv6 too
	config.AdvertisePeerUrls = []url.URL{{Scheme: "https", Host: m.Peer}}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	if m.Join != nil {
		config.ClusterState = embed.ClusterStateFlagExisting
		var all []string
		for node, address := range m.Join {
			all = append(all, string(node)+"="+peerURL(address))
		}
		slices.Sort(all)
		config.InitialCluster = strings.Join(all, ",")
	}
	// Certificates name nodes, never addresses, so that no address is verified;
	// that of a server says so, and whoever isn't one is no member.
	tls := &config.PeerTLSInfo
	tls.CertFile, tls.KeyFile = filepath.Join(m.PKI, "node.crt"), filepath.Join(m.PKI, "node.key")
	tls.TrustedCAFile = filepath.Join(m.PKI, "ca.crt")
	tls.ClientCertAuth, tls.SkipClientSANVerify = true, true
	tls.ServerName, tls.AllowedHostnames = pki.ServerName, []string{pki.ServerName}
	config.TlsMinVersion = "TLS1.3"
	return nil
}

// watchEnd reports the end of a member that nobody closed.
func (e *Etcd) watchEnd(running context.Context) {
	server := e.member.Server
	select {
	case err := <-e.member.Err():
		select {
		case <-server.StoppingNotify():
			err = ErrRemoved
		default:
		}
		e.ended <- err
	case <-server.StoppingNotify():
		// A member stops by itself for this reason only.
		e.ended <- ErrRemoved
	case <-running.Done():
	}
}

// announce tells the cluster where this member is reached, where that is new.
func (e *Etcd) announce(ctx context.Context, urls []url.URL) error {
	self, address := e.member.Server.MemberID(), urls[0].String()
	known := e.member.Server.Cluster().Member(self)
	if known == nil || slices.Contains(known.PeerURLs, address) {
		return nil
	}
	if _, err := e.client.MemberUpdate(ctx, uint64(self), []string{address}); err != nil {
		return fmt.Errorf("tell the members of the store that this one is at %s: %w", address, explain(err))
	}
	return nil
}

// Close stops the member. Everything that was committed is on the disk.
func (e *Etcd) Close() {
	e.closed.Do(func() {
		// etcd reports its own closing as errors.
		e.level.SetLevel(zap.FatalLevel)
		e.stop()
		e.client.Close() //nolint:errcheck // it ends with the member
		e.done.Wait()
		e.member.Server.Stop() // without it Close waits for ever for a member that never became ready
		e.member.Close()
	})
}

// Err tells where the member ended by itself: ErrRemoved, or what went wrong.
func (e *Etcd) Err() <-chan error { return e.ended }
