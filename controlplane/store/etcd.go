package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Where things stand in etcd, each with the version of its layout. What is
// beside the prefix of the state is never part of a State.
const (
	prefix         = "/skerry/v1/"
	secretsPrefix  = "/skerry/secrets/v1/"
	electionPrefix = "/skerry/election/v1"
)

// ErrNoQuorum says that too few members answer to decide anything. It comes
// after about 7 s, etcd's own limit. What was to be written may be written yet,
// or may not.
var ErrNoQuorum = errors.New("too few members of the store answer: a majority has to")

// Etcd is a Store on an etcd member that runs in this process.
type Etcd struct {
	member *embed.Etcd
	client *clientv3.Client
	log    *slog.Logger
	level  zap.AtomicLevel
	ended  chan error
	full   chan struct{}      // wakes the upkeep where a write was refused for want of room
	stop   context.CancelFunc // ends the goroutines below
	done   sync.WaitGroup
	closed sync.Once
	last   atomic.Pointer[State] // the newest that was loaded
}

var _ Store = (*Etcd)(nil)

// Load returns a snapshot. What has not changed since the last one it shares
// with that: a store may hold many megabytes, and is loaded for most calls.
func (e *Etcd) Load(ctx context.Context) (*State, error) {
	last := e.last.Load()
	if last == nil {
		return e.loadFrom(ctx, newState())
	}
	now, err := e.get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return nil, fmt.Errorf("read the store: %w", err)
	}
	if now.Header.Revision == last.Revision {
		return last, nil
	}
	return e.loadFrom(ctx, last)
}

// loadFrom brings a state that was loaded before up to date; a new one is of
// revision 0, before all others.
func (e *Etcd) loadFrom(ctx context.Context, last *State) (*State, error) {
	response, err := e.get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithMinModRev(last.Revision+1))
	if err != nil {
		return nil, fmt.Errorf("read the store: %w", err)
	}
	state := last.share()
	state.Revision = response.Header.Revision
	for _, kv := range response.Kvs {
		if err := state.add(strings.TrimPrefix(string(kv.Key), prefix), kv.Value, kv.ModRevision); err != nil {
			return nil, err
		}
	}
	// etcd does not say what was deleted, but how many keys are left. One that is
	// of a later version counts there, and the whole is read each time.
	if last.Revision > 0 && int(response.Count) != state.keys() {
		return e.loadFrom(ctx, newState())
	}
	for {
		newest := e.last.Load()
		if newest != nil && newest.Revision >= state.Revision || e.last.CompareAndSwap(newest, state) {
			return state, nil
		}
	}
}

// get reads from etcd.
func (e *Etcd) get(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return read(func() (*clientv3.GetResponse, error) { return e.client.Get(ctx, key, options...) })
}

// read reads again where the members have elected another leader meanwhile.
func read[T any](from func() (T, error)) (T, error) {
	for {
		value, err := from()
		if !errors.Is(err, rpctypes.ErrLeaderChanged) {
			return value, explain(err)
		}
	}
}

// explain says what people can do about an error, and names what etcd says in
// several ways where it has no quorum.
func explain(err error) error {
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return fmt.Errorf("it is full, and makes room now; if it stays so, remove what is not needed: %w", err)
	}
	for _, timeout := range []error{
		rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrNoLeader,
	} {
		if errors.Is(err, timeout) {
			return fmt.Errorf("%w: %w", ErrNoQuorum, err)
		}
	}
	return err
}

// Commit writes the changes. Where it returns an error other than ErrStale, a
// batch may have been written all the same: a caller loads and plans again.
func (e *Etcd) Commit(ctx context.Context, from *State, changes []Change) error {
	return e.commit(ctx, from, changes, nil)
}

// commit writes the changes; with a term, only while it lasts.
func (e *Etcd) commit(ctx context.Context, from *State, changes []Change, term *Term) error {
	for _, batch := range batches(changes) {
		if err := e.commitBatch(ctx, from, batch, term); err != nil {
			return err
		}
	}
	return nil
}

func (e *Etcd) commitBatch(ctx context.Context, from *State, batch []Change, term *Term) error {
	var compares []clientv3.Cmp
	var otherwise []clientv3.Op
	if term != nil {
		compares = append(compares, term.lasts())
		otherwise = append(otherwise, clientv3.OpGet(term.key, clientv3.WithKeysOnly()))
	}
	operations := make([]clientv3.Op, len(batch))
	for i, c := range batch {
		key := prefix + c.key
		compares = append(compares, clientv3.Compare(clientv3.ModRevision(key), "=", from.version(c.key)))
		operations[i] = clientv3.OpDelete(key)
		if c.value != nil {
			text, err := c.encode()
			if err != nil {
				return err
			}
			operations[i] = clientv3.OpPut(key, string(text))
		}
	}
	response, err := e.client.Txn(ctx).If(compares...).Then(operations...).Else(otherwise...).Commit()
	switch {
	case err != nil:
		if errors.Is(err, rpctypes.ErrNoSpace) {
			wake(e.full)
		}
		return fmt.Errorf("write to the store: %w", explain(err))
	case response.Succeeded:
		return nil
	case term != nil && !term.holds(response.Responses[0].GetResponseRange().Kvs):
		return ErrNotLeader
	default:
		return ErrStale
	}
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
