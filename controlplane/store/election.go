package store

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// electionTTL is how long a leader that was lost keeps the others waiting, in
// seconds. A leader renews three times within it.
const electionTTL = 5

const electionPrefix = prefix + "election"

// Campaign takes part in the election, and returns once this member leads. The
// value is what Leader tells of it.
func (e *Etcd) Campaign(ctx context.Context, value string) (*Term, error) {
	session, err := concurrency.NewSession(e.client, concurrency.WithTTL(electionTTL), concurrency.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("take part in the election: %w", err)
	}
	election := concurrency.NewElection(session, electionPrefix)
	// A session that is lost while others lead would wait for ever.
	campaign, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-session.Done():
			cancel()
		case <-campaign.Done():
		}
	}()
	if err := election.Campaign(campaign, value); err != nil {
		session.Close() //nolint:errcheck // it ends by itself
		return nil, fmt.Errorf("take part in the election: %w", err)
	}
	t := &Term{etcd: e, session: session, election: election, key: election.Key(), revision: election.Rev()}
	t.ctx, t.end = context.WithCancel(ctx)
	go func() {
		select {
		case <-session.Done():
		case <-t.ctx.Done():
		}
		t.end()
	}()
	return t, nil
}

// Term is a time during which this member leads.
type Term struct {
	etcd     *Etcd
	session  *concurrency.Session
	election *concurrency.Election
	// key is in the store as long as the term lasts, made at the revision.
	key      string
	revision int64
	ctx      context.Context //nolint:containedctx // it is the term
	end      context.CancelFunc
}

// Context ends with the term: when the lease on it runs out, be it that the
// member is cut off from the others, or when the campaign's context ends.
func (t *Term) Context() context.Context { return t.ctx }

// Store commits as long as the term lasts. Later it gives ErrStale: the check
// is part of each transaction, so that a leader that was stopped in the middle
// of a step, and goes on when another one leads, changes nothing.
func (t *Term) Store() Store {
	leads := clientv3.Compare(clientv3.CreateRevision(t.key), "=", t.revision)
	return &guarded{Etcd: t.etcd, guards: []clientv3.Cmp{leads}}
}

// Resign ends the term, so that another member need not wait for the lease.
func (t *Term) Resign(ctx context.Context) {
	t.end()
	t.election.Resign(ctx) //nolint:errcheck // the lease ends it
	t.session.Close()      //nolint:errcheck // it ends by itself
}

// guarded is a Store that commits while its guards hold.
type guarded struct {
	*Etcd
	guards []clientv3.Cmp
}

func (g *guarded) Commit(ctx context.Context, from *State, changes []Change) error {
	return g.commit(ctx, g.guards, from, changes)
}

// Leader sends the value of the member that leads, or nothing where none does,
// each time that it changes, until ctx ends.
func (e *Etcd) Leader(ctx context.Context) <-chan string {
	leaders := make(chan string)
	go func() {
		defer close(leaders)
		for last, first := "", true; ctx.Err() == nil; {
			now, changes, err := e.leader(ctx)
			if err == nil && (first || now != last) {
				last, first = now, false
				select {
				case leaders <- now:
				case <-ctx.Done():
					return
				}
			}
			if err == nil {
				<-changes
			}
			select {
			case <-ctx.Done():
			case <-time.After(leaderPause):
			}
		}
	}()
	return leaders
}

// leaderPause keeps a store that doesn't answer from being asked all the time.
const leaderPause = 50 * time.Millisecond

// leader gives the value of who leads: the oldest key of the election. The
// channel is closed when that may have changed.
func (e *Etcd) leader(ctx context.Context) (string, <-chan struct{}, error) {
	// Not a serializable read: those go on in a member that was removed, whose
	// files are closed by then.
	asking, cancel := context.WithTimeout(ctx, electionTTL*time.Second)
	defer cancel()
	response, err := e.client.Get(asking, electionPrefix+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return "", nil, fmt.Errorf("ask the store who leads: %w", err)
	}
	value := ""
	if len(response.Kvs) > 0 {
		value = string(response.Kvs[0].Value)
	}
	changes := make(chan struct{})
	go func() {
		defer close(changes)
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		for r := range e.client.Watch(watching, electionPrefix+"/", clientv3.WithPrefix(), clientv3.WithRev(response.Header.Revision+1)) {
			if len(r.Events) > 0 || r.Err() != nil {
				return
			}
		}
	}()
	return value, changes, nil
}
