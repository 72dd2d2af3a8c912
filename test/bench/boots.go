package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/libvirtnodes"
	"github.com/skerry-io/skerry/provider/binary"
	"github.com/skerry-io/skerry/resources"
)

// bootsCommand runs boots instead of the rest: nodes are reached from within
// the hypervisor's network namespace only, so the program runs itself there.
const bootsCommand = "boots"

const (
	bootTurns = 3
	// bootPatience bounds one boot, which takes half a minute on an idle machine
	// that emulates the processor.
	bootPatience = 10 * time.Minute
	nodeName     = "bench"
)

// booting is what the outer process hands to the inner one.
type booting struct {
	URI, Pool, PoolDir, Network string
	// Ours and Plain are the node image and the one without skerry.
	Ours, Plain string
	// Key is the path of a private SSH key.
	Key string
}

// booted is what comes back: seconds of each boot.
type booted struct {
	Ours, Plain []time.Duration
	// Report says where the time of our last boot went.
	Report string
}

// boots boots both images in turns, and prints how long it took as JSON.
func boots(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var b booting
	if err := json.Unmarshal([]byte(strings.Join(args, " ")), &b); err != nil {
		return fmt.Errorf("read what to boot: %w", err)
	}
	log := slog.New(slog.DiscardHandler)
	b2 := &booter{booting: b, hypervisors: libvirtnodes.New(log), machines: client.NewDialer(client.Options{Key: b.Key, Log: log})}
	defer b2.hypervisors.Close()
	defer b2.machines.Close()
	result, err := b2.turns(ctx, os.Stderr)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// booter boots VMs.
type booter struct {
	booting
	hypervisors *libvirtnodes.Hypervisors
	machines    *client.Dialer
}

func (b *booter) turns(ctx context.Context, notes io.Writer) (booted, error) {
	var result booted
	for turn := range bootTurns {
		plain, err := b.boot(ctx, b.Plain, b.reachedTarget)
		if err != nil {
			return result, fmt.Errorf("boot the image without skerry: %w", err)
		}
		ours, err := b.boot(ctx, b.Ours, func(ctx context.Context, host *libvirtnodes.Host, s *libvirtnodes.Spec, vm *libvirtnodes.VM) (time.Time, error) {
			at, endpoint, err := b.agentAnswered(ctx, host, s, vm)
			if err == nil && turn == bootTurns-1 {
				result.Report, err = b.report(ctx, endpoint)
			}
			return at, err
		})
		if err != nil {
			return result, fmt.Errorf("boot a node: %w", err)
		}
		fmt.Fprintf(notes, "  %d: agent %.2f s, multi-user.target %.2f s\n", turn+1, ours.Seconds(), plain.Seconds())
		result.Ours, result.Plain = append(result.Ours, ours), append(result.Plain, plain)
	}
	return result, nil
}

// boot makes a VM from the image as the provider does, and returns how long it
// ran until it was up, which until tells. The VM is gone then.
func (b *booter) boot(ctx context.Context, image string, until func(context.Context, *libvirtnodes.Host, *libvirtnodes.Spec, *libvirtnodes.VM) (time.Time, error)) (_ time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	host, err := b.hypervisors.Host(b.URI)
	if err != nil {
		return 0, err
	}
	keys, err := b.machines.PublicKeys()
	if err != nil {
		return 0, err
	}
	s := &libvirtnodes.Spec{
		Node: resources.Node{
			Name: nodeName, Pool: b.Pool, Image: resources.NodeImage{Source: image},
			CPUs: 2, Memory: 2 * resources.GiB, Disk: 10 * resources.GiB,
			Networks: []resources.Attachment{{Network: b.Network}},
		},
		Mode: "auto", Program: binary.For, LoginKeys: keys,
	}
	vm, err := host.Create(ctx, s)
	defer func() {
		err = keep(err, host.Delete(context.WithoutCancel(ctx), b.Pool, nodeName, false))
	}()
	if err != nil {
		return 0, err
	}
	started, err := qemuStart(nodeName)
	if err != nil {
		return 0, err
	}
	up, err := until(ctx, host, s, vm)
	if err != nil {
		return 0, fmt.Errorf("%w\nthe console's last lines:\n  %s", err, strings.Join(host.Console(b.Pool, nodeName, 15), "\n  "))
	}
	return up.Sub(started), nil
}

// agentAnswered returns when the agent has, as the provider waits for it.
func (b *booter) agentAnswered(ctx context.Context, host *libvirtnodes.Host, s *libvirtnodes.Spec, vm *libvirtnodes.VM) (time.Time, resources.Endpoint, error) {
	addresses, err := host.Addresses(ctx, s)
	if err != nil {
		return time.Time{}, resources.Endpoint{}, err
	}
	endpoint := host.Endpoint(vm, addresses[0], "")
	_, err = b.machines.Agent(endpoint).Await(ctx)
	return time.Now(), endpoint, err
}

// reachedTarget returns when the console has shown the marker.
func (b *booter) reachedTarget(ctx context.Context, _ *libvirtnodes.Host, _ *libvirtnodes.Spec, _ *libvirtnodes.VM) (time.Time, error) {
	err := awaitText(ctx, filepath.Join(b.PoolDir, nodeName+"-console.log"), marker, 1)
	return time.Now(), err
}
