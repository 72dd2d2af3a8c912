package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-io/skerry/resources"
)

// ErrNotCaughtUp says that a learner lacks too much to vote: it has not started
// yet, or it is still copying.
var ErrNotCaughtUp = errors.New("the learner has not caught up yet")

// ErrUnsettled says that a change of the members might cost the quorum now. etcd
// wants the members that count to be connected for five seconds first.
var ErrUnsettled = errors.New("too few members of the store have been connected for 5 s")

// Peer is a member of the store, as all members see it.
type Peer struct {
	ID uint64
	// Node is empty until the member has started once.
	Node resources.NodeID
	// Address is the host:port at which others reach it; empty where the store
	// stays alone.
	Address string
	// Learner says that it copies and does not vote yet.
	Learner bool
}

const peerScheme = "https://"

func peerURL(address string) string { return peerScheme + address }

// Peers returns the members of the store, in etcd's order: by ID.
func (e *Etcd) Peers(ctx context.Context) ([]Peer, error) {
	response, err := read(func() (*clientv3.MemberListResponse, error) { return e.client.MemberList(ctx) })
	if err != nil {
		return nil, fmt.Errorf("list the members of the store: %w", err)
	}
	var peers []Peer
	for _, m := range response.Members {
		p := Peer{ID: m.ID, Node: resources.NodeID(m.Name), Learner: m.IsLearner}
		for _, address := range m.PeerURLs {
			if host, found := strings.CutPrefix(address, peerScheme); found {
				p.Address = host
			}
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// AddLearner adds a member that copies and does not vote. The process at the
// address is started after it, with Member.Join. Where a member of the address
// is there already it does nothing. It returns ErrUnsettled where too few
// members are connected: try again.
func (e *Etcd) AddLearner(ctx context.Context, address string) error {
	peers, err := e.Peers(ctx)
	if err != nil {
		return err
	}
	for _, p := range peers {
		if p.Address == address {
			return nil
		}
	}
	if _, err := e.client.MemberAddAsLearner(ctx, []string{peerURL(address)}); err != nil {
		return fmt.Errorf("add %s to the store: %w", address, unsettled(err))
	}
	return nil
}

// Promote makes a voter of a learner. A voter stays one. It returns
// ErrNotCaughtUp while the learner lags: try again.
func (e *Etcd) Promote(ctx context.Context, id uint64) error {
	_, err := e.client.MemberPromote(ctx, id)
	switch {
	case err == nil, errors.Is(err, rpctypes.ErrMemberNotLearner):
		return nil
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady):
		err = ErrNotCaughtUp
	}
	return fmt.Errorf("promote member %x of the store: %w", id, unsettled(err))
}

// RemovePeer removes another member. One that is not there is removed already.
// It returns ErrUnsettled where the members that stay would be too few: try
// again. No member removes itself: it resigns, and the next leader does it.
func (e *Etcd) RemovePeer(ctx context.Context, id uint64) error {
	if id == uint64(e.member.Server.MemberID()) {
		return fmt.Errorf("remove member %x of the store: it is this one, which others have to remove", id)
	}
	if _, err := e.client.MemberRemove(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
		return fmt.Errorf("remove member %x of the store: %w", id, unsettled(err))
	}
	return nil
}

// unsettled names what etcd refuses for the sake of the quorum.
func unsettled(err error) error {
	if errors.Is(err, rpctypes.ErrUnhealthy) || errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) {
		return fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	return explain(err)
}
