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

// inside is what the resources inside of a cluster have in common, which are named
// there and reached by its endpoint. R is the resource, and S what the control
// plane says of it.
type inside[R, S any] struct {
	// kind is one of them, for people, as in "network".
	kind string
	// where gives the endpoint of the cluster, which import sets, and the name.
	where func(*R) (cluster *string, name string)
	// find asks the control plane, and adopt does for an import: find unless given.
	find, adopt func(*client.Server, context.Context, string) (S, error)
	// fill takes what the control plane says, and returns what to warn of.
	fill func(*R, S) []string
	// remove returns once it is gone, with what to warn of.
	remove func(context.Context, *client.Server, string) ([]string, error)
}

// plan replaces what is to be in another cluster.
func (i inside[R, S]) plan(_ context.Context, _ *Connections, p *definition.Planning[R]) resources.Problems {
	if p.Prior == nil || !p.Known("cluster") {
		return nil
	}
	prior, _ := i.where(p.Prior)
	planned, _ := i.where(p.Planned)
	if otherCluster(*prior, *planned) {
		p.Replace("cluster")
	}
	return nil
}

func (i inside[R, S]) read(ctx context.Context, c *Connections, r *R) (definition.Reading, error) {
	cluster, name := i.where(r)
	server, _, err := c.server(*cluster)
	if err != nil {
		return definition.Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := i.find(server, ctx, name)
	switch {
	case api.IsNotFound(err):
		return definition.Reading{Gone: true}, nil
	case err != nil:
		return definition.Reading{Warnings: []string{fmt.Sprintf("the state of %s %s stays as it was: %v", i.kind, name, err)}}, nil
	}
	return definition.Reading{Warnings: i.fill(r, status)}, nil
}

func (i inside[R, S]) delete(ctx context.Context, c *Connections, r *R) ([]string, error) {
	cluster, name := i.where(r)
	return c.remove(ctx, *cluster, i.kind+" "+name, func(ctx context.Context, server *client.Server) ([]string, error) {
		return i.remove(ctx, server, name)
	})
}

// importer finds `NAME@ENDPOINT`, with the endpoint of the cluster.
func (i inside[R, S]) importer(ctx context.Context, c *Connections, id string) (*R, error) {
	name, endpoint, found := strings.Cut(id, "@")
	if !found {
		return nil, errors.New("import: the ID is NAME@ENDPOINT, with the endpoint of the cluster")
	}
	server, _, err := c.server(endpoint)
	if err != nil {
		return nil, err
	}
	find := i.find
	if i.adopt != nil {
		find = i.adopt
	}
	status, err := find(server, ctx, name)
	if err != nil {
		return nil, err
	}
	r := new(R)
	cluster, _ := i.where(r)
	*cluster = endpoint
	i.fill(r, status)
	return r, nil
}

// remove removes something inside of a cluster, and warns where the cluster is gone
// with it.
func (c *Connections) remove(ctx context.Context, cluster, what string, remove func(context.Context, *client.Server) ([]string, error)) ([]string, error) {
	server, endpoints, err := c.server(cluster)
	if err != nil {
		return nil, err
	}
	var warnings []string
	gone, err := c.untilGone(ctx, endpoints, func(ctx context.Context) (err error) {
		warnings, err = remove(ctx, server)
		return err
	})
	if err == nil && gone != "" {
		warnings = append(warnings, what+": "+gone)
	}
	return warnings, err
}

// unusedPatience is how long the removal of what services use waits for them: those
// that are removed by the same destroy, and don't name it, go at the same time.
const unusedPatience = 30 * time.Second

// removeUnused removes what services use, once none does.
func removeUnused[S any](ctx context.Context, name string, remove func(context.Context, string) error,
	watch func(context.Context, string, func(S) (more bool, err error)) error, used func(S) bool,
) error {
	refused := remove(ctx, name)
	if !api.IsConflict(refused) {
		return refused
	}
	waiting, cancel := context.WithTimeout(ctx, unusedPatience)
	defer cancel()
	err := watch(waiting, name, func(status S) (bool, error) { return used(status), nil })
	switch {
	case errors.Is(err, api.ErrGone) || api.IsNotFound(err):
		return nil
	case err != nil:
		return refused
	}
	return remove(ctx, name)
}

func checkCluster(p *resources.Problems, text string) {
	if _, err := resources.ParseEndpoints(text); err != nil {
		p.Addf("cluster", "%v", err)
	}
}

// otherCluster is true where two endpoints are known to be of different
// clusters.
func otherCluster(a, b string) bool {
	one, two := clusterOf(a), clusterOf(b)
	return one != "" && two != "" && one != two
}

func clusterOf(text string) resources.ClusterID {
	endpoints, err := resources.ParseEndpoints(text)
	if err != nil {
		return ""
	}
	return endpoints[0].Cluster
}

// server returns the control plane behind a cluster's endpoint.
func (c *Connections) server(text string) (*client.Server, []resources.Endpoint, error) {
	endpoints, err := resources.ParseEndpoints(text)
	if err != nil {
		return nil, nil, fmt.Errorf("cluster: %w", err)
	}
	return c.machines.Server(endpoints...), endpoints, nil
}
