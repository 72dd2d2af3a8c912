package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	Read:   readVolume,
	Update: func(ctx context.Context, c *Connections, _, v *Volume) error { return putVolume(ctx, c, v) },
	Delete: deleteVolume,
	Import: importVolume,
}

func planVolume(_ context.Context, _ *Connections, p *definition.Planning[Volume]) resources.Problems {
	if p.Prior == nil {
		return nil
	}
	if p.Known("cluster") && otherCluster(p.Prior.Cluster, p.Planned.Cluster) {
		p.Replace("cluster")
	}
	var problems resources.Problems
	// The control plane knows for sure whether there is data.
	if p.Known("size") && p.Prior.Node != "" && p.Planned.Size < p.Prior.Size {
		problems.Addf("size", "was %s, and the volume on node %s can't shrink; make a smaller volume, and restore a backup of this one there", p.Prior.Size, p.Prior.Node)
	}
	return problems
}

func (v *Volume) fill(status resources.VolumeStatus) {
	v.Volume, v.Node = status.Volume, status.NodeName
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

func readVolume(ctx context.Context, c *Connections, v *Volume) (definition.Reading, error) {
	server, _, err := c.server(v.Cluster)
	if err != nil {
		return definition.Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := server.Volume(ctx, v.Name)
	switch {
	case api.IsNotFound(err):
		return definition.Reading{Gone: true}, nil
	case err != nil:
		return definition.Reading{Warnings: []string{fmt.Sprintf("the state of volume %s stays as it was: %v", v.Name, err)}}, nil
	}
	v.fill(status)
	return definition.Reading{}, nil
}

func deleteVolume(ctx context.Context, c *Connections, v *Volume) ([]string, error) {
	server, endpoints, err := c.server(v.Cluster)
	if err != nil {
		return nil, err
	}
	var kept []string
	warning, err := c.untilGone(ctx, endpoints, func(ctx context.Context) error {
		status, err := server.Volume(ctx, v.Name)
		if api.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		kept = keptData(status)
		return removeVolume(ctx, server, v.Name)
	})
	if err != nil || warning == "" {
		return kept, err
	}
	return []string{fmt.Sprintf("volume %s: %s", v.Name, warning)}, nil
}

// keptData says where the data of a volume stays that is removed.
func keptData(status resources.VolumeStatus) []string {
	v := status.Volume
	if !v.Local() || !v.RetainOnDestroy || status.Node == "" {
		return nil
	}
	return []string{fmt.Sprintf("the data of volume %s stays on node %s, in /var/lib/skerry/volumes/%s (retain_on_destroy): an import of %s@ENDPOINT makes it a volume again", v.Name, status.NodeName, v.Name, v.Name)}
}

// removeVolume removes a volume, and waits for services that go at the same time.
func removeVolume(ctx context.Context, server *client.Server, name string) error {
	refused := server.DeleteVolume(ctx, name)
	if !api.IsConflict(refused) {
		return refused
	}
	waiting, cancel := context.WithTimeout(ctx, emptyPatience)
	defer cancel()
	err := server.WatchVolume(waiting, name, func(status resources.VolumeStatus) (bool, error) { return len(status.Services) > 0, nil })
	switch {
	case errors.Is(err, api.ErrGone) || api.IsNotFound(err):
		return nil
	case err != nil:
		return refused
	}
	return server.DeleteVolume(ctx, name)
}

// importVolume finds `NAME@ENDPOINT`, with the endpoint of the cluster.
func importVolume(ctx context.Context, c *Connections, id string) (*Volume, error) {
	name, endpoint, found := strings.Cut(id, "@")
	if !found {
		return nil, errors.New("import: the ID is NAME@ENDPOINT, with the endpoint of the cluster")
	}
	server, _, err := c.server(endpoint)
	if err != nil {
		return nil, err
	}
	status, err := server.AdoptVolume(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &Volume{Cluster: endpoint}
	v.fill(status)
	return v, nil
}
