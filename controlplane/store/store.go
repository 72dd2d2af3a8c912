// Package store keeps what the control plane was told and what it decided:
// nodes, services, networks, volumes and replicas. It holds nothing that changes every second, so
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
	Objects
	Replicas Replicas
	// Cluster is what concerns the cluster as a whole.
	Cluster resources.ClusterRecord
	// versions holds the versions of all but the replicas by their keys, for
	// Commit to compare. Replicas has its own.
	versions map[string]int64
	// owned tells which of the maps are this state's own: versions, and those of
	// the kinds.
	owned struct {
		versions bool
		kinds    [kindCount]bool
	}

	// found is what ReplicasOf and ReplicasOn look into, made when the first
	// of them is called.
	find  sync.Once
	found found
}

// found is the replicas by service and by node, each sorted.
type found struct {
	byService map[string][]*resources.Replica
	byNode    map[resources.NodeID][]*resources.Replica
}

// Change sets a key to a value, or removes it where the value is nil.
type Change struct {
	key   string
	value any
}

// Key names what the change changes, as in "services/web".
func (c Change) Key() string { return c.key }

// PutCluster stores what concerns the cluster as a whole.
func PutCluster(c resources.ClusterRecord) Change { return Change{clusterKey, c} }

// PutImage stores that the cluster's registry holds an image.
func PutImage(i resources.ImageRecord) Change { return Change{imagesPrefix + i.Key(), i} }

// DeleteImage removes an image.
func DeleteImage(i resources.ImageRecord) Change { return Change{key: imagesPrefix + i.Key()} }

// PutServer stores a server.
func PutServer(s resources.ServerAddress) Change { return Change{serversPrefix + string(s.Node), s} }

// DeleteServer removes a server.
func DeleteServer(id resources.NodeID) Change { return Change{key: serversPrefix + string(id)} }

// PutNode stores a node.
func PutNode(n resources.NodeInfo) Change { return Change{nodesPrefix + string(n.ID), n} }

// DeleteNode removes a node. What runs on it is not touched.
func DeleteNode(id resources.NodeID) Change { return Change{key: nodesPrefix + string(id)} }

// PutService stores a service.
func PutService(s resources.ServiceRecord) Change { return Change{servicesPrefix + s.Service.Name, s} }

// DeleteService removes a service.
func DeleteService(name string) Change { return Change{key: servicesPrefix + name} }

// PutReplica stores a replica.
func PutReplica(r resources.Replica) Change { return Change{replicasPrefix + string(r.ID), &r} }

// DeleteReplica removes a replica.
func DeleteReplica(id resources.ReplicaID) Change { return Change{key: replicasPrefix + string(id)} }

// PutNetwork stores a network.
func PutNetwork(n resources.NetworkRecord) Change { return Change{networksPrefix + n.Network.Name, n} }

// DeleteNetwork removes a network.
func DeleteNetwork(name string) Change { return Change{key: networksPrefix + name} }

// PutVolume stores a volume.
func PutVolume(v resources.VolumeRecord) Change { return Change{volumesPrefix + v.Volume.Name, v} }

// DeleteVolume removes a volume. Its data is not touched.
func DeleteVolume(name string) Change { return Change{key: volumesPrefix + name} }

// PutSecret stores a secret, without its value.
func PutSecret(s resources.SecretRecord) Change { return Change{secretPrefix + s.Secret.Name, s} }

// DeleteSecret removes a secret.
func DeleteSecret(name string) Change { return Change{key: secretPrefix + name} }

// PutConfig stores a config, without its content.
func PutConfig(c resources.ConfigRecord) Change { return Change{configsPrefix + c.Config.Name, c} }

// DeleteConfig removes a config.
func DeleteConfig(name string) Change { return Change{key: configsPrefix + name} }

// PutContent stores a version of a content, sealed.
func PutContent(c resources.ContentRecord) Change { return Change{contentsPrefix + c.Version, c} }

// DeleteContent removes a version of a content.
func DeleteContent(version string) Change { return Change{key: contentsPrefix + version} }

// PutRegistry stores how a registry is reached, without the password.
func PutRegistry(r resources.RegistryRecord) Change { return Change{registryPrefix + r.Host, r} }

// DeleteRegistry removes that.
func DeleteRegistry(host string) Change { return Change{key: registryPrefix + host} }

// PutKey stores that there is a sealing key, which itself is never stored.
func PutKey(k resources.KeyRecord) Change { return Change{keysPrefix + k.ID, k} }

// DeleteKey removes a sealing key.
func DeleteKey(id string) Change { return Change{key: keysPrefix + id} }

func newState() *State { return (&State{}).With() }

// With returns the state as it is after the changes; s stays as it was.
func (s *State) With(changes ...Change) *State {
	next := s.share()
	for _, c := range changes {
		next.apply(c, s.version(c.key))
	}
	return next
}

// share returns a copy that can be changed, and shares with s what it does not
// change.
func (s *State) share() *State {
	next := &State{Revision: s.Revision, Objects: s.Objects, Replicas: s.Replicas.share(), Cluster: s.Cluster, versions: s.versions}
	// The zero State has no maps.
	for _, k := range kinds {
		k.fill(&next.Objects)
	}
	if next.versions == nil {
		next.versions = map[string]int64{}
	}
	return next
}

// keys is how many keys the state was read from.
func (s *State) keys() int { return len(s.versions) + s.Replicas.Len() }

// version is that of a key; zero where it is not there.
func (s *State) version(key string) int64 {
	if id, isReplica := strings.CutPrefix(key, replicasPrefix); isReplica {
		if e := s.Replicas.entry(resources.ReplicaID(id)); e != nil {
			return e.version
		}
		return 0
	}
	return s.versions[key]
}

// apply carries out a change of a state that nobody else has yet.
func (s *State) apply(c Change, version int64) {
	if id, isReplica := strings.CutPrefix(c.key, replicasPrefix); isReplica {
		replica, _ := c.value.(*resources.Replica)
		s.Replicas.put(resources.ReplicaID(id), replica, version)
		return
	}
	own(&s.versions, s.owned.versions)
	s.owned.versions = true
	if c.value == nil {
		delete(s.versions, c.key)
	} else {
		s.versions[c.key] = version
	}
	if c.key == clusterKey {
		s.Cluster, _ = c.value.(resources.ClusterRecord)
		return
	}
	if i, name := kindOf(c.key); i >= 0 {
		kinds[i].put(&s.Objects, name, c.value, s.owned.kinds[i])
		s.owned.kinds[i] = true
	}
}

// ReplicasOf returns the replicas of a service, sorted by slot and ID.
func (s *State) ReplicasOf(service string) []resources.Replica {
	return values(s.index().byService[service])
}

// ReplicasOn returns the replicas that are placed on a node, sorted by ID.
func (s *State) ReplicasOn(node resources.NodeID) []resources.Replica {
	return values(s.index().byNode[node])
}

func values(replicas []*resources.Replica) []resources.Replica {
	var all []resources.Replica
	for _, r := range replicas {
		all = append(all, *r)
	}
	return all
}

// index finds the replicas of each service and node.
func (s *State) index() *found {
	s.find.Do(func() {
		f := found{map[string][]*resources.Replica{}, map[resources.NodeID][]*resources.Replica{}}
		for _, r := range s.Replicas.All() {
			f.byService[r.Service] = append(f.byService[r.Service], r)
			f.byNode[r.Node] = append(f.byNode[r.Node], r)
		}
		byID := func(a, b *resources.Replica) int { return strings.Compare(string(a.ID), string(b.ID)) }
		for _, replicas := range f.byService {
			slices.SortFunc(replicas, func(a, b *resources.Replica) int { return cmp.Or(a.Slot-b.Slot, byID(a, b)) })
		}
		for _, replicas := range f.byNode {
			slices.SortFunc(replicas, byID)
		}
		s.found = f
	})
	return &s.found
}

// add puts what the store holds under a key into the state. Keys of later
// versions are passed over.
func (s *State) add(key string, value []byte, version int64) error {
	read := decode[resources.ClusterRecord]
	switch i, _ := kindOf(key); {
	case strings.HasPrefix(key, replicasPrefix):
		read = decode[*resources.Replica]
	case i >= 0:
		read = kinds[i].read
	case key != clusterKey:
		return nil
	}
	c, err := read(key, value)
	if err != nil {
		return err
	}
	s.apply(c, version)
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
