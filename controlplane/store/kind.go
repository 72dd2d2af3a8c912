package store

import (
	"maps"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Objects are what a State holds, but for the replicas, of which there are many.
type Objects struct {
	Nodes    map[resources.NodeID]resources.NodeInfo
	Services map[string]resources.ServiceRecord
	// Servers are the nodes that take part in the control plane, or are on their
	// way in or out.
	Servers map[resources.NodeID]resources.ServerAddress
	// Images are those of the cluster's registry, by their keys.
	Images map[string]resources.ImageRecord
	// Networks are those that replicas join, by their names.
	Networks map[string]resources.NetworkRecord
	// Volumes are those that replicas mount, by their names.
	Volumes map[string]resources.VolumeRecord
	// Secrets and Configs are those that replicas have, by their names.
	Secrets map[string]resources.SecretRecord
	Configs map[string]resources.ConfigRecord
	// Contents are what is in them, sealed, by version.
	Contents map[string]resources.ContentRecord
	// Registries are those whose access is settled, by host.
	Registries map[string]resources.RegistryRecord
	// Keys are those that contents are sealed with, by ID.
	Keys map[string]resources.KeyRecord
}

// Where objects are in the store.
const (
	nodesPrefix    = "nodes/"
	servicesPrefix = "services/"
	replicasPrefix = "replicas/"
	serversPrefix  = "servers/"
	imagesPrefix   = "images/"
	networksPrefix = "networks/"
	volumesPrefix  = "volumes/"
	secretPrefix   = "secrets/"
	configsPrefix  = "configs/"
	contentsPrefix = "contents/"
	keysPrefix     = "keys/"
	registryPrefix = "registries/"
	clusterKey     = "cluster/record"
)

const kindCount = 11

// kinds are those of Objects.
var kinds = [kindCount]kind{
	mapped(nodesPrefix, func(o *Objects) *map[resources.NodeID]resources.NodeInfo { return &o.Nodes }),
	mapped(servicesPrefix, func(o *Objects) *map[string]resources.ServiceRecord { return &o.Services }),
	mapped(serversPrefix, func(o *Objects) *map[resources.NodeID]resources.ServerAddress { return &o.Servers }),
	mapped(imagesPrefix, func(o *Objects) *map[string]resources.ImageRecord { return &o.Images }),
	mapped(networksPrefix, func(o *Objects) *map[string]resources.NetworkRecord { return &o.Networks }),
	mapped(volumesPrefix, func(o *Objects) *map[string]resources.VolumeRecord { return &o.Volumes }),
	mapped(secretPrefix, func(o *Objects) *map[string]resources.SecretRecord { return &o.Secrets }),
	mapped(configsPrefix, func(o *Objects) *map[string]resources.ConfigRecord { return &o.Configs }),
	mapped(contentsPrefix, func(o *Objects) *map[string]resources.ContentRecord { return &o.Contents }),
	mapped(registryPrefix, func(o *Objects) *map[string]resources.RegistryRecord { return &o.Registries }),
	mapped(keysPrefix, func(o *Objects) *map[string]resources.KeyRecord { return &o.Keys }),
}

// kind is how objects of one kind come from the store, and into their map.
type kind struct {
	prefix string
	// fill makes the map where there is none.
	fill func(*Objects)
	// put sets the object of a name, or removes it where the value is nil, in a map
	// of its own: a copy unless owned.
	put  func(o *Objects, name string, value any, owned bool)
	read func(key string, text []byte) (Change, error)
}

func mapped[K ~string, V any](prefix string, field func(*Objects) *map[K]V) kind {
	return kind{
		prefix: prefix,
		fill: func(o *Objects) {
			if m := field(o); *m == nil {
				*m = map[K]V{}
			}
		},
		put: func(o *Objects, name string, value any, owned bool) {
			m := field(o)
			own(m, owned)
			if v, there := value.(V); there {
				(*m)[K(name)] = v
			} else {
				delete(*m, K(name))
			}
		},
		read: decode[V],
	}
}

// kindOf finds the kind and the name of an object by its key; -1 where it has
// none.
func kindOf(key string) (index int, name string) {
	for i, k := range kinds {
		if name, is := strings.CutPrefix(key, k.prefix); is {
			return i, name
		}
	}
	return -1, ""
}

// own makes a map the state's own, by a copy where it is not.
func own[K comparable, V any](m *map[K]V, owned bool) {
	if !owned {
		*m = maps.Clone(*m)
	}
}
