package provider

import (
	"context"
	"errors"
	"fmt"
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

// secrets are those of clusters.
var secrets = inside[Secret, resources.SecretStatus]{
	kind:  "secret",
	where: func(s *Secret) (*string, string) { return &s.Cluster, s.Name },
	find:  (*client.Server).Secret,
	fill:  func(s *Secret, status resources.SecretStatus) []string { s.Secret = status.Secret; return nil },
	remove: func(ctx context.Context, server *client.Server, name string) ([]string, error) {
		used := func(s resources.SecretStatus) bool { return len(s.Services) > 0 }
		return nil, removeUnused(ctx, name, server.DeleteSecret, server.WatchSecret, used)
	},
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
	Plan:   secrets.plan,
	Create: putSecret,
	Read:   secrets.read,
	Update: func(ctx context.Context, c *Connections, _, s *Secret) error { return putSecret(ctx, c, s) },
	Delete: secrets.delete,
	Import: secrets.importer,
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
