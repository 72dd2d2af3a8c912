package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// ErrNotLeader says that the term in which something was decided is over.
var ErrNotLeader = errors.New("another server leads the cluster now")

// electionTTL is how long a leader is missed before another takes over. Longer
// than an election of etcd's own (about 2 s), shorter than the grace of a node.
const electionTTL = 5 * time.Second

// Term is the time for which this member leads the cluster.
type Term struct {
	etcd     *Etcd
	session  *concurrency.Session
	key      string          // in etcd, as long as the term lasts
	revision int64           // at which the key was created
	ctx      context.Context //nolint:containedctx // it is the term
}

// Campaign returns once this member leads the cluster: at most one does at a
// time, and those that wait take over in the order in which they came. value
// is what Leader tells everybody; it is not empty. An error says that the wait
// is over, because ctx is, or because etcd did not answer for a while: the
// caller tries again.
func (e *Etcd) Campaign(ctx context.Context, value string) (*Term, error) {
	lease, err := e.client.Grant(ctx, int64(electionTTL/time.Second))
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", explain(err))
	}
	session, err := concurrency.NewSession(e.client, concurrency.WithLease(lease.ID))
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with the session, which ends with ctx or the store
		select {
		case <-session.Done():
			cancel(ErrNotLeader)
		case <-ctx.Done():
			session.Orphan()
		}
	}()
	election := concurrency.NewElection(session, electionPrefix)
	if err := election.Campaign(ctx, value); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(err)
		return nil, fmt.Errorf("campaign: %w", explain(err))
	}
	return &Term{etcd: e, session: session, key: election.Key(), revision: election.Rev(), ctx: ctx}, nil
}

// Context ends with the term: when ctx of Campaign does, after Resign, and
// about electionTTL after etcd has lost its quorum or this member its way to
// it.
func (t *Term) Context() context.Context { return t.ctx }

// Store is the store, for what the leader decides: it commits only while the
// term lasts, and returns ErrNotLeader afterwards. That holds also for a
// process that was stopped for a while and does not know it.
func (t *Term) Store() Store { return termStore{t.etcd, t} }

// Resign ends the term at once, so that the next member in line leads. Without
// it, and without a store to tell it to, that takes electionTTL.
func (t *Term) Resign(ctx context.Context) {
	t.session.Orphan()
	// Where this fails the lease runs out by itself.
	t.etcd.client.Revoke(ctx, t.session.Lease()) //nolint:errcheck // see above
}

// lasts is true in etcd as long as the term lasts.
func (t *Term) lasts() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(t.key), "=", t.revision)
}

// holds says whether the term lasts, by what stands under its key.
func (t *Term) holds(found []*mvccpb.KeyValue) bool {
	return len(found) == 1 && found[0].CreateRevision == t.revision
}

type termStore struct {
	*Etcd
	term *Term
}

func (s termStore) Commit(ctx context.Context, from *State, changes []Change) error {
	return s.commit(ctx, from, changes, s.term)
}

// Leader sends the value of whoever leads, at once and each time that it
// changes, and closes the channel when ctx ends. It is "" while nobody leads. A
// receiver that is slow gets the last one only. A member that is cut off from
// the others tells nothing new.
func (e *Etcd) Leader(ctx context.Context) <-chan string {
	leader := make(chan string, 1)
	go func() {
		defer close(leader)
		last, told := "", false
		for ctx.Err() == nil {
			value, revision, err := e.leader(ctx)
			if err == nil {
				if value != last || !told {
					replace(leader, value)
					last, told = value, true
				}
				err = e.changed(ctx, electionPrefix, revision)
			}
			if err != nil {
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}
	}()
	return leader
}

// replace puts a value into a channel that has room for one, in the place of one
// that nobody took. Nobody else sends there.
func replace(channel chan string, value string) {
	select {
	case <-channel:
	default:
	}
	channel <- value
}

// leader returns the value of whoever leads, and the revision of the store at
// which it does.
func (e *Etcd) leader(ctx context.Context) (string, int64, error) {
	// Not a serializable read: those go on in a member that was removed, whose
	// files are closed by then.
	ctx, cancel := context.WithTimeout(ctx, electionTTL)
	defer cancel()
	response, err := e.client.Get(ctx, electionPrefix+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return "", 0, fmt.Errorf("read who leads: %w", err)
	}
	if len(response.Kvs) == 0 {
		return "", response.Header.Revision, nil
	}
	return string(response.Kvs[0].Value), response.Header.Revision, nil
}

// changed returns once something below the prefix has changed after a revision.
func (e *Etcd) changed(ctx context.Context, prefix string, revision int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	response, open := <-e.client.Watch(ctx, prefix+"/", clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	if !open {
		return context.Canceled
	}
	return response.Err()
}
