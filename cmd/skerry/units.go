package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// systemdUnits are the processes of the node's networks as units of the machine:
// they outlive the agent.
type systemdUnits struct{}

func unitName(command string) string { return "skerry-" + command + ".service" }

// Start starts one, unless it runs.
func (systemdUnits) Start(ctx context.Context, command string) error {
	return systemctl(ctx, "start", unitName(command))
}

// Stop ends one.
func (systemdUnits) Stop(ctx context.Context, command string) error {
	return systemctl(ctx, "stop", unitName(command))
}

// childUnits are the same as children of this process, which end with it.
type childUnits struct {
	dir string
	log *slog.Logger

	mu  sync.Mutex // guards all below
	all map[string]*child
}

type child struct {
	end   context.CancelFunc
	ended chan struct{}
}

// childPause is how long a child that ended waits until it is started again:
// what systemd's units wait.
const childPause = time.Second

// Start starts one, unless it runs.
func (u *childUnits) Start(_ context.Context, command string) error { //nolint:contextcheck // what runs outlives the call
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start skerry %s: %w", command, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all[command] != nil {
		return nil
	}
	ctx, end := context.WithCancel(context.Background())
	c := &child{end, make(chan struct{})}
	if u.all == nil {
		u.all = map[string]*child{}
	}
	u.all[command] = c
	go func() {
		defer close(c.ended)
		// The thread must not end before its children do: see Pdeathsig.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for ctx.Err() == nil {
			process := exec.CommandContext(ctx, program, command, "--dir", u.dir)
			process.Stderr = os.Stderr
			process.Cancel = func() error { return process.Process.Signal(os.Interrupt) }
			process.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
			if err := process.Run(); ctx.Err() == nil {
				u.log.Error("a process of the networks ended, and is started again", "command", command, "err", err)
				rest(ctx, childPause)
			}
		}
	}()
	return nil
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Stop ends one.
func (u *childUnits) Stop(_ context.Context, command string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c := u.all[command]; c != nil {
		c.end()
		<-c.ended
		delete(u.all, command)
	}
	return nil
}

// close ends all.
func (u *childUnits) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.all {
		c.end()
		<-c.ended
	}
	clear(u.all)
}
