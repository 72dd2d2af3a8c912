package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// Volume is skerry_volume.
type Volume struct {
	// Endpoint of the cluster whose services mount the volume: `endpoint` of a skerry_cluster.
	Cluster string `json:"cluster"`
	resources.Volume
	// Name of the node that a local volume is on; empty before its first use.
	Node string `json:"node,omitempty" iac:"computed,volatile"`
}

// volumes are those of clusters.
var volumes = inside[Volume, resources.VolumeStatus]{
	kind:   "volume",
	where:  func(v *Volume) (*string, string) { return &v.Cluster, v.Name },
	find:   (*client.Server).Volume,
	adopt:  (*client.Server).AdoptVolume,
	fill:   (*Volume).fill,
	remove: removeVolume,
}

var volume = definition.Resource[*Connections, Volume]{
	Name:     "volume",
	Doc:      "Storage that outlives replicas.",
	ImportID: "The ID is `NAME@ENDPOINT`, with the endpoint of the cluster. Data that was kept when a volume was destroyed becomes a volume again.",
	Timeouts: definition.Timeouts{Create: 5 * time.Minute, Read: time.Minute, Update: 5 * time.Minute, Delete: 5 * time.Minute},
	Check: func(v *Volume) resources.Problems {
		p := v.Validate()
		checkCluster(&p, v.Cluster)
		return p
	},
	Plan:   planVolume,
	Create: putVolume,
	Read:   volumes.read,
	Update: func(ctx context.Context, c *Connections, _, v *Volume) error { return putVolume(ctx, c, v) },
	Delete: volumes.delete,
	Import: volumes.importer,
}

func planVolume(ctx context.Context, c *Connections, p *definition.Planning[Volume]) resources.Problems {
	problems := volumes.plan(ctx, c, p)
	// The control plane knows for sure whether there is data.
	if p.Prior != nil && p.Known("size") && p.Prior.Node != "" && p.Planned.Size < p.Prior.Size {
		problems.Addf("size", "was %s, and the volume on node %s can't shrink; make a smaller volume, and restore a backup of this one there", p.Prior.Size, p.Prior.Node)
	}
	return problems
}

func (v *Volume) fill(status resources.VolumeStatus) []string {
	v.Volume, v.Node = status.Volume, status.NodeName
	return nil
}

func putVolume(ctx context.Context, c *Connections, v *Volume) error {
	server, _, err := c.server(v.Cluster)
	if err != nil {
		return err
	}
	status, err := server.PutVolume(ctx, v.Volume)
	if err != nil {
		return err
	}
	v.fill(status)
	return nil
}

// removeVolume removes a volume, and says where its data stays.
func removeVolume(ctx context.Context, server *client.Server, name string) ([]string, error) {
	status, err := server.Volume(ctx, name)
	if api.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	used := func(s resources.VolumeStatus) bool { return len(s.Services) > 0 }
	return keptData(status), removeUnused(ctx, name, server.DeleteVolume, server.WatchVolume, used)
}

// keptData says where the data of a volume stays that is removed.
func keptData(status resources.VolumeStatus) []string {
	v := status.Volume
	if !v.Local() || !v.RetainOnDestroy || status.Node == "" {
		return nil
	}
	return []string{fmt.Sprintf("the data of volume %s stays on node %s, in /var/lib/skerry/volumes/%s (retain_on_destroy): an import of %s@ENDPOINT makes it a volume again", v.Name, status.NodeName, v.Name, v.Name)}
}
