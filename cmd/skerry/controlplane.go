package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/skerry-io/skerry/resources"
)

// lockDirectory takes a lock that ends with the process.
func lockDirectory(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close() //nolint:errcheck // it was not locked
		return nil, fmt.Errorf("lock %s: another skerry uses the directory", path)
	}
	return file, nil
}

// notifySystemd says that a unit of type notify has started.
func notifySystemd() {
	daemon.SdNotify(false, daemon.SdNotifyReady) //nolint:errcheck // without systemd there is nobody to tell
}

func (p places) etcd() string { return filepath.Join(p.data, "etcd") }

// stored are where the control plane's data is.
func (p places) stored() []string {
	return []string{p.etcd(), filepath.Join(p.data, "registry"), p.keysFile()}
}

func (p places) wipe() error {
	var errs []error
	for _, dir := range p.stored() {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// systemdControlPlane is the control plane as a unit of the node.
type systemdControlPlane struct {
	places places
	log    *slog.Logger
}

const serverUnit = "skerry-server.service"

// Start enables and starts the unit, which is of type notify: systemctl
// returns when the socket answers.
func (s *systemdControlPlane) Start(ctx context.Context, _ resources.ClusterConfig) error {
	return systemctl(ctx, "enable", "--now", serverUnit)
}

// Stop ends the unit and removes its data.
func (s *systemdControlPlane) Stop(ctx context.Context) error {
	if err := systemctl(ctx, "disable", "--now", serverUnit); err != nil {
		return err
	}
	return s.places.wipe()
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", append([]string{"--quiet"}, args...)...).CombinedOutput()
	if err == nil {
		return nil
	}
	why, _ := exec.CommandContext(ctx, "journalctl", "-u", args[len(args)-1], "-n", "5", "-o", "cat", "--no-pager").Output()
	return fmt.Errorf("systemctl %s: %w: %s %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)), strings.TrimSpace(string(why)))
}

// localControlPlane is the control plane within this process.
type localControlPlane struct {
	places places
	log    *slog.Logger
	base   context.Context //nolint:containedctx // what ends it with the process, beyond the call that starts it

	mu    sync.Mutex // guards all below
	end   context.CancelFunc
	ended chan error
}

// Start starts it, unless it runs.
func (l *localControlPlane) Start(ctx context.Context, cluster resources.ClusterConfig) error { //nolint:contextcheck // what runs outlives the call
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		return nil
	}
	base, end := context.WithCancel(l.base)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- runServer(base, l.places, cluster, func() { close(ready) }, l.log) }()
	select {
	case <-ready:
		l.end, l.ended = end, ended
		return nil
	case err := <-ended:
		end()
		return err
	case <-ctx.Done():
		end()
		<-ended //nolint:errcheck // the call was given up
		return context.Cause(ctx)
	}
}

// Stop ends it and removes its data.
func (l *localControlPlane) Stop(context.Context) error {
	l.close()
	return l.places.wipe()
}

func (l *localControlPlane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end == nil {
		return
	}
	l.end()
	if err := <-l.ended; err != nil {
		l.log.Error("the control plane ended", "err", err)
	}
	l.end = nil
}
