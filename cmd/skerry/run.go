package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/registry"
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

// runServer runs the control plane until ctx ends, and calls ready once its
// socket answers.
func runServer(ctx context.Context, p places, cluster resources.ClusterConfig, ready func(), log *slog.Logger) error {
	lock, err := lockDirectory(filepath.Join(p.data, "server.lock"))
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it ends with the process
	if err := os.MkdirAll(p.run, 0o700); err != nil {
		return fmt.Errorf("make the directory of the sockets: %w", err)
	}
	etcd, err := store.OpenEtcd(ctx, store.Member{Dir: filepath.Join(p.data, "etcd"), Run: p.run}, log)
	if err != nil {
		return err
	}
	defer etcd.Close()
	images, err := registry.Open(filepath.Join(p.data, "registry"), log)
	if err != nil {
		return err
	}
	defer images.Close() //nolint:errcheck // what was put is on the disk
	s := server.New(server.Config{Cluster: cluster, Store: etcd, Images: images, Resolve: server.ResolveRemote, Log: log})
	listener, err := listen(p.serverEndpoint().Socket)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	web := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	group.Go(func() error { return s.Run(ctx) })
	group.Go(func() error {
		if err := web.Serve(listener); ctx.Err() == nil {
			return fmt.Errorf("serve the API: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		select {
		case err := <-etcd.Err():
			return fmt.Errorf("the store has ended: %w", err)
		case <-ctx.Done():
			return web.Close()
		}
	})
	log.Info("the control plane answers", "cluster", cluster.Name, "socket", listener.Addr())
	ready()
	return group.Wait()
}

// runAgent runs the agent until ctx ends.
func runAgent(ctx context.Context, p places, controlPlane agent.ControlPlane, log *slog.Logger) error {
	lock, err := lockDirectory(filepath.Join(p.data, "agent.lock"))
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it ends with the process
	runtime, err := podmanruntime.New(ctx, p.podman)
	if err != nil {
		return err
	}
	dialer := client.NewDialer(client.Options{Log: log})
	defer dialer.Close()
	control := dialer.Server(p.serverEndpoint())
	a, err := agent.New(agent.Config{
		Runtime: runtime, Server: control, ControlPlane: controlPlane, ServerTransport: control.Registry(),
		Data: p.data, AuthorizedKeys: p.authorizedKeys, Version: version, Log: log,
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
	return a.Run(ctx, listener, images)
}
