package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/dataplane"
	"github.com/skerry-io/skerry/controlplane/registry"
	"github.com/skerry-io/skerry/controlplane/seal"
	"github.com/skerry-io/skerry/controlplane/server"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/podmanruntime"
	"github.com/skerry-io/skerry/resources"
)

func (p places) socket(name string) string { return filepath.Join(p.run, name) }

func (p places) serverEndpoint() resources.Endpoint {
	return resources.Endpoint{Socket: p.socket(filepath.Base(resources.ServerSocket))}
}

// listen opens a unix socket for its owner only. One that a killed process left
// is replaced; the lock of the data directory keeps out a second process.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return listener, nil
}

// secrets is the directory of what replicas and pulls have in memory only.
func (p places) secrets() string { return filepath.Join(p.run, "secrets") }

// runServer runs the control plane until ctx ends, and calls ready once its
// socket answers.
func runServer(ctx context.Context, p places, cluster resources.ClusterConfig, ready func(), log *slog.Logger) error {
	debug.SetGCPercent(gcPercent)
	lock, err := lockDirectory(filepath.Join(p.data, "server.lock"))
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it ends with the process
	if err := os.MkdirAll(p.run, 0o700); err != nil {
		return fmt.Errorf("make the directory of the sockets: %w", err)
	}
	ready = sync.OnceFunc(ready)
	if err := awaitRoom(ctx, p, ready, log); err != nil {
		return err
	}
	m, err := p.member(cluster)
	if err != nil {
		return err
	}
	if err := m.found(p, cluster); err != nil {
		return err
	}
	if err := m.fetchKeys(ctx, p, cluster); err != nil {
		return err
	}
	etcd, err := store.OpenEtcd(ctx, m.store(p, cluster), log)
	if err != nil {
		return err
	}
	defer etcd.Close()
	keys, err := seal.OpenRing(p.keysFile())
	if err != nil {
		return err
	}
	authority, err := m.authority(ctx, p, etcd)
	if err != nil {
		return err
	}
	images, err := registry.Open(filepath.Join(p.data, "registry"), log) //nolint:contextcheck // it outlives each call
	if err != nil {
		return err
	}
	defer images.Close() //nolint:errcheck // what was put is on the disk
	s := server.New(server.Config{
		Cluster: cluster, Self: m.self, Store: etcd, Snapshot: etcd.Snapshot, Images: images, Resolve: server.ResolveRemote, Keys: keys, Log: log,
		Election: election{etcd}, Members: etcd, Authority: authority, Dial: p.dialServer, DialAgent: p.dialAgent,
	})
	listeners, err := m.listen(p, s)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Run(ctx) })
	for _, l := range listeners {
		web := &http.Server{Handler: l.handler, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
		group.Go(func() error {
			if err := web.Serve(l.Listener); ctx.Err() == nil {
				return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			return web.Close()
		})
	}
	group.Go(func() error {
		select {
		case err := <-etcd.Err():
			return fmt.Errorf("the store has ended: %w", err)
		case <-ctx.Done():
			return nil
		}
	})
	log.Info("the control plane answers", "cluster", cluster.Name, "socket", listeners[0].Addr())
	ready()
	return group.Wait()
}

// gcPercent is how much the heap of an agent or a server grows until it is collected:
// the node's memory is for its replicas.
const gcPercent = 25

// runAgent runs the agent until ctx ends.
func runAgent(ctx context.Context, p places, controlPlane agent.ControlPlane, units dataplane.Units, log *slog.Logger) error {
	lock, err := lockDirectory(filepath.Join(p.data, "agent.lock"))
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it ends with the process
	debug.SetGCPercent(gcPercent)
	dialer := client.NewDialer(client.Options{Log: log})
	defer dialer.Close()
	control := dialer.Member(p.way)
	servers, err := p.listenForServers()
	if err != nil {
		return err
	}
	podman := podmanruntime.New(p.podman)
	network, err := p.network(units, log)
	if err != nil {
		return err
	}
	podman.Namespaces, podman.Memory, podman.RegistriesConf = p.namespaces(), p.secrets(), p.registriesConf
	var storage agent.Storage = podman
	if p.alone {
		storage = nil // the disk is that of a person, who works on it
	}
	a, err := agent.New(agent.Config{
		Runtime: podman, Volumes: podman, Registries: podman, Storage: storage, Network: network, Console: podman, Server: control, ControlPlane: controlPlane, ServerTransport: control.Registry(), Skew: control.Skew,
		Data: p.data, Secrets: p.secrets(), AuthorizedKeys: p.authorizedKeys, Servers: servers, Alone: p.alone, Version: version, Log: log,
	})
	if err != nil {
		return err
	}
	images, err := net.Listen("tcp", p.registry)
	if err != nil {
		return fmt.Errorf("serve the cluster's registry to Podman: %w", err)
	}
	listener, err := listen(p.socket(filepath.Base(resources.AgentSocket)))
	if err != nil {
		images.Close() //nolint:errcheck // nobody was served
		return err
	}
	log.Info("the agent answers", "socket", listener.Addr())
	forgetStart(log)
	return a.Run(ctx, listener, images)
}
