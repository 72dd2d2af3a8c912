// Package store keeps what the control plane was told and what it decided:
// nodes, services and replicas. It holds nothing that changes every second, so
// heartbeats and the state of containers are not in it.
//
// The contract is small. Load takes a snapshot of everything; Commit writes
// changes that were made from a snapshot, and refuses them where one of their
// keys has changed since; Watch tells that there is something new. Two stores
// keep it: Etcd, and Memory for tests. Package storetest is what both pass.
package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/skerry-io/skerry/resources"
)

// Store is the contract. Every method can be called from several goroutines.
type Store interface {
	// Load returns a snapshot of everything, as of one moment.
	Load(ctx context.Context) (*State, error)
	// Commit writes the changes in order, in batches of at most BatchSize, each
	// whole or not at all. It returns ErrStale where a key of a batch is not
	// what it was in the state; batches before it stay written, so a caller
	// loads and plans again.
	Commit(ctx context.Context, from *State, changes []Change) error
	// Watch sends a value soon after each change, until ctx ends. Changes that
	// come together may be told together; the first value comes at once.
	Watch(ctx context.Context) <-chan struct{}
}

// BatchSize is the largest number of changes that are committed as one: etcd's
// own limit of operations in a transaction.
const BatchSize = 128

// ErrStale says that a snapshot is too old to be written from.
var ErrStale = errors.New("the state has changed meanwhile")

// State is a snapshot. Its values are shared: read them, and never write them.
type State struct {
	// Revision grows with every change of the store.
	Revision int64
	Nodes    map[resources.NodeID]resources.NodeInfo
	Services map[string]resources.ServiceRecord
	Replicas map[resources.ReplicaID]resources.Replica
	// versions holds the version of every key, for Commit to compare.
	versions map[string]int64

	// found is what ReplicasOf and ReplicasOn look into, made when the first
	// of them is called.
	find  sync.Once
	found found
}

// found is the replicas by service and by node, each sorted.
type found struct {
	byService map[string][]resources.ReplicaID
	byNode    map[resources.NodeID][]resources.ReplicaID
}

// Change sets a key to a value, or removes it where the value is nil.
type Change struct {
	key   string
	value any
}

// Key names what the change changes, as in "services/web".
func (c Change) Key() string { return c.key }

const (
	nodesPrefix    = "nodes/"
	servicesPrefix = "services/"
	replicasPrefix = "replicas/"
)

// PutNode stores a node.
func PutNode(n resources.NodeInfo) Change { return Change{nodesPrefix + string(n.ID), n} }

// DeleteNode removes a node. What runs on it is not touched.
func DeleteNode(id resources.NodeID) Change { return Change{key: nodesPrefix + string(id)} }

// PutService stores a service.
func PutService(s resources.ServiceRecord) Change { return Change{servicesPrefix + s.Service.Name, s} }

// DeleteService removes a service.
func DeleteService(name string) Change { return Change{key: servicesPrefix + name} }

// PutReplica stores a replica.
func PutReplica(r resources.Replica) Change { return Change{replicasPrefix + string(r.ID), r} }

// DeleteReplica removes a replica.
func DeleteReplica(id resources.ReplicaID) Change { return Change{key: replicasPrefix + string(id)} }

func newState() *State {
	return &State{
		Nodes:    map[resources.NodeID]resources.NodeInfo{},
		Services: map[string]resources.ServiceRecord{},
		Replicas: map[resources.ReplicaID]resources.Replica{},
		versions: map[string]int64{},
	}
}

// With returns the state as it is after the changes; s stays as it was.
func (s *State) With(changes ...Change) *State {
	next := s.clone()
	for _, c := range changes {
		next.apply(c)
	}
	return next
}

// clone copies the state, but for its versions.
func (s *State) clone() *State {
	next := &State{Revision: s.Revision, versions: s.versions, Nodes: maps.Clone(s.Nodes), Services: maps.Clone(s.Services), Replicas: maps.Clone(s.Replicas)}
	// The zero State has no maps.
	if next.Nodes == nil {
		next.Nodes = map[resources.NodeID]resources.NodeInfo{}
	}
	if next.Services == nil {
		next.Services = map[string]resources.ServiceRecord{}
	}
	if next.Replicas == nil {
		next.Replicas = map[resources.ReplicaID]resources.Replica{}
	}
	return next
}

func (s *State) apply(c Change) {
	switch value := c.value.(type) {
	case resources.NodeInfo:
		s.Nodes[value.ID] = value
	case resources.ServiceRecord:
		s.Services[value.Service.Name] = value
	case resources.Replica:
		s.Replicas[value.ID] = value
	case nil:
		kind, name, _ := strings.Cut(c.key, "/")
		switch kind + "/" {
		case nodesPrefix:
			delete(s.Nodes, resources.NodeID(name))
		case servicesPrefix:
			delete(s.Services, name)
		case replicasPrefix:
			delete(s.Replicas, resources.ReplicaID(name))
		}
	}
}

// ReplicasOf returns the replicas of a service, sorted by slot and ID.
func (s *State) ReplicasOf(service string) []resources.Replica {
	return s.pick(s.index().byService[service])
}

// ReplicasOn returns the replicas that are placed on a node, sorted by ID.
func (s *State) ReplicasOn(node resources.NodeID) []resources.Replica {
	return s.pick(s.index().byNode[node])
}

func (s *State) pick(ids []resources.ReplicaID) []resources.Replica {
	var some []resources.Replica
	for _, id := range ids {
		some = append(some, s.Replicas[id])
	}
	return some
}

// index finds the replicas of each service and node.
func (s *State) index() *found {
	s.find.Do(func() {
		f := found{map[string][]resources.ReplicaID{}, map[resources.NodeID][]resources.ReplicaID{}}
		for id, r := range s.Replicas {
			f.byService[r.Service] = append(f.byService[r.Service], id)
			f.byNode[r.Node] = append(f.byNode[r.Node], id)
		}
		for _, ids := range f.byService {
			slices.SortFunc(ids, func(a, b resources.ReplicaID) int {
				return cmp.Or(s.Replicas[a].Slot-s.Replicas[b].Slot, strings.Compare(string(a), string(b)))
			})
		}
		for _, ids := range f.byNode {
			slices.Sort(ids)
		}
		s.found = f
	})
	return &s.found
}

// add puts what the store holds under a key into the state. Keys of later
// versions are passed over.
func (s *State) add(key string, value []byte, version int64) error {
	var c Change
	var err error
	switch {
	case strings.HasPrefix(key, nodesPrefix):
		c, err = decode[resources.NodeInfo](key, value)
	case strings.HasPrefix(key, servicesPrefix):
		c, err = decode[resources.ServiceRecord](key, value)
	case strings.HasPrefix(key, replicasPrefix):
		c, err = decode[resources.Replica](key, value)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	s.apply(c)
	s.versions[key] = version
	return nil
}

func decode[T any](key string, text []byte) (Change, error) {
	var value T
	if err := json.Unmarshal(text, &value); err != nil {
		return Change{}, fmt.Errorf("read %s from the store: %w", key, err)
	}
	return Change{key, value}, nil
}

func (c Change) encode() ([]byte, error) {
	text, err := json.Marshal(c.value)
	if err != nil {
		return nil, fmt.Errorf("write %s to the store: %w", c.key, err)
	}
	return text, nil
}
