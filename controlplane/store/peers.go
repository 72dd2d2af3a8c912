package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-io/skerry/resources"
)

// Peer is a member of the store, as its members know it.
type Peer struct {
	ID uint64
	// Node is empty until the member has started for the first time.
	Node resources.NodeID
	// Address where the others reach it, host:port.
	Address string
	// Learner is true until it is promoted: it follows, and doesn't vote.
	Learner bool
}

// ErrNotCaughtUp says that a learner is still behind.
var ErrNotCaughtUp = errors.New("the new server has not caught up with the others yet")

// Peers lists the members.
func (e *Etcd) Peers(ctx context.Context) ([]Peer, error) {
	response, err := e.client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the members of the store: %w", err)
	}
	var all []Peer
	for _, m := range response.Members {
		p := Peer{ID: m.ID, Node: resources.NodeID(m.Name), Learner: m.IsLearner}
		for _, text := range m.PeerURLs {
			if u, err := url.Parse(text); err == nil {
				p.Address = u.Host
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// AddLearner adds a member that follows and doesn't vote. One of that address is
// left as it is.
func (e *Etcd) AddLearner(ctx context.Context, address string) error {
	peer := peerURL(address)
	_, err := e.client.MemberAddAsLearner(ctx, []string{peer.String()})
	if err != nil && !errors.Is(err, rpctypes.ErrPeerURLExist) && !errors.Is(err, rpctypes.ErrMemberExist) {
		return fmt.Errorf("add %s to the store: %w", address, err)
	}
	return nil
}

// Promote makes a learner vote. It gives ErrNotCaughtUp while that is too early.
func (e *Etcd) Promote(ctx context.Context, id uint64) error {
	_, err := e.client.MemberPromote(ctx, id)
	switch {
	case errors.Is(err, rpctypes.ErrMemberNotLearner):
		return nil
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady), errors.Is(err, rpctypes.ErrGRPCLearnerNotReady):
		return ErrNotCaughtUp
	case err != nil:
		return fmt.Errorf("make member %x of the store vote: %w", id, err)
	}
	return nil
}

// RemovePeer removes a member; an absent one is success. Etcd refuses it where
// what is left would have no majority.
func (e *Etcd) RemovePeer(ctx context.Context, id uint64) error {
	if _, err := e.client.MemberRemove(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
		return fmt.Errorf("remove member %x from the store: %w", id, err)
	}
	return nil
}

const secretsPrefix = prefix + "secrets/"

// Secret reads what is not part of a State; it is nil where it is absent.
func (e *Etcd) Secret(ctx context.Context, name string) ([]byte, error) {
	response, err := e.client.Get(ctx, secretsPrefix+name)
	if err != nil {
		return nil, fmt.Errorf("read secret %s from the store: %w", name, err)
	}
	if len(response.Kvs) == 0 {
		return nil, nil
	}
	return response.Kvs[0].Value, nil
}

// PutSecret writes a secret. It gives ErrStale where there is one already.
func (e *Etcd) PutSecret(ctx context.Context, name string, value []byte) error {
	key := secretsPrefix + name
	response, err := e.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return fmt.Errorf("write secret %s to the store: %w", name, err)
	}
	if !response.Succeeded {
		return ErrStale
	}
	return nil
}
