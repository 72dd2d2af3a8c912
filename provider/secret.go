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

// Secret is skerry_secret.
type Secret struct {
	// Endpoint of the cluster whose services use the secret: `endpoint` of a skerry_cluster.
	Cluster string `json:"cluster"`
	resources.Secret
}

var secret = definition.Resource[*Connections, Secret]{
	Name:     "secret",
	Doc:      "A value that only the replicas get which need it. A new version rolls the services that use it, and the apply waits for them.",
	ImportID: "The ID is `NAME@ENDPOINT`, with the endpoint of the cluster. The value is not read.",
	Timeouts: definition.Timeouts{Create: 20 * time.Minute, Read: time.Minute, Update: 20 * time.Minute, Delete: 5 * time.Minute},
	Check: func(s *Secret) resources.Problems {
		p := s.Validate()
		checkCluster(&p, s.Cluster)
		return p
	},
	Plan: func(_ context.Context, _ *Connections, p *definition.Planning[Secret]) resources.Problems {
		if p.Prior != nil && p.Known("cluster") && otherCluster(p.Prior.Cluster, p.Planned.Cluster) {
			p.Replace("cluster")
		}
		return nil
	},
	Create: putSecret,
	Read:   readSecret,
	Update: func(ctx context.Context, c *Connections, _, s *Secret) error { return putSecret(ctx, c, s) },
	Delete: deleteSecret,
	Import: importSecret,
}

func putSecret(ctx context.Context, c *Connections, s *Secret) error {
	server, _, err := c.server(s.Cluster)
	if err != nil {
		return err
	}
	status, err := server.PutSecret(ctx, s.Secret)
	if err != nil {
		return err
	}
	return awaitRevisions(ctx, server, status.Services)
}

// awaitRevisions returns once the services run with what was put, or with what
// keeps them from that.
func awaitRevisions(ctx context.Context, server *client.Server, services []resources.ServiceRevision) error {
	var failures []error
	for _, s := range services {
		var status resources.ServiceStatus
		err := server.WatchService(ctx, s.Service, func(now resources.ServiceStatus) (bool, error) {
			status = now
			if now.Revision > s.Revision && now.RolledBack != s.Revision {
				return false, nil // somebody has changed it since, and waits for that
			}
			return outcome(s.Revision, now)
		})
		switch {
		case errors.Is(err, api.ErrGone) || api.IsNotFound(err):
		case err != nil && ctx.Err() != nil:
			failures = append(failures, fmt.Errorf("service %s does not run with it yet: %w%s", s.Service, context.Cause(ctx), where(status)))
		default:
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func readSecret(ctx context.Context, c *Connections, s *Secret) (definition.Reading, error) {
	server, _, err := c.server(s.Cluster)
	if err != nil {
		return definition.Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := server.Secret(ctx, s.Name)
	switch {
	case api.IsNotFound(err):
		return definition.Reading{Gone: true}, nil
	case err != nil:
		return definition.Reading{Warnings: []string{fmt.Sprintf("the state of secret %s stays as it was: %v", s.Name, err)}}, nil
	}
	s.Secret = status.Secret
	return definition.Reading{}, nil
}

func deleteSecret(ctx context.Context, c *Connections, s *Secret) ([]string, error) {
	server, endpoints, err := c.server(s.Cluster)
	if err != nil {
		return nil, err
	}
	warning, err := c.untilGone(ctx, endpoints, func(ctx context.Context) error {
		return removeUnused(ctx, func() error { return server.DeleteSecret(ctx, s.Name) }, func(ctx context.Context) error {
			return server.WatchSecret(ctx, s.Name, func(now resources.SecretStatus) (bool, error) { return len(now.Services) > 0, nil })
		})
	})
	if err != nil || warning == "" {
		return nil, err
	}
	return []string{fmt.Sprintf("secret %s: %s", s.Name, warning)}, nil
}

// removeUnused removes what services use, and waits for services that go at the
// same time: used returns once none does any more.
func removeUnused(ctx context.Context, remove func() error, used func(context.Context) error) error {
	refused := remove()
	if !api.IsConflict(refused) {
		return refused
	}
	waiting, cancel := context.WithTimeout(ctx, emptyPatience)
	defer cancel()
	switch err := used(waiting); {
	case errors.Is(err, api.ErrGone) || api.IsNotFound(err):
		return nil
	case err != nil:
		return refused
	}
	return remove()
}

// importSecret finds `NAME@ENDPOINT`, with the endpoint of the cluster.
func importSecret(ctx context.Context, c *Connections, id string) (*Secret, error) {
	name, endpoint, found := strings.Cut(id, "@")
	if !found {
		return nil, errors.New("import: the ID is NAME@ENDPOINT, with the endpoint of the cluster")
	}
	server, _, err := c.server(endpoint)
	if err != nil {
		return nil, err
	}
	status, err := server.Secret(ctx, name)
	return &Secret{Cluster: endpoint, Secret: status.Secret}, err
}
