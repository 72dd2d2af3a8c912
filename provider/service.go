package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// Service is skerry_service.
type Service struct {
	// Endpoint of the cluster that runs the service: `endpoint` of a skerry_cluster.
	Cluster string `json:"cluster"`
	resources.Service
	// Revision of the template, from 1 on.
	Revision int `json:"revision,omitempty" iac:"computed,volatile"`
	// Digest that the revision's image was resolved to.
	ImageDigest string `json:"image_digest,omitempty" iac:"computed,volatile"`
	// How many replicas there are to be now: `replicas`, or what `autoscale` has made of it, or the nodes of a global service.
	CurrentReplicas int `json:"current_replicas,omitempty" iac:"computed,volatile"`
	// How many replicas of the revision run.
	ReadyReplicas int `json:"ready_replicas,omitempty" iac:"computed,volatile"`
	// Where the service stands: `running`, `rolling` or `failed`.
	State string `json:"state,omitempty" iac:"computed,volatile"`
	// Addresses of the published ports, as `host:port`.
	Addresses []string `json:"addresses,omitempty" iac:"computed,volatile"`
	// Virtual IP of the service on each of its networks, by the network's name: what its names resolve to.
	VirtualIPs map[string]string `json:"virtual_ips,omitempty" iac:"computed,volatile"`
}

// services are those of clusters.
var services = inside[Service, resources.ServiceStatus]{
	kind:  "service",
	where: func(s *Service) (*string, string) { return &s.Cluster, s.Name },
	find:  (*client.Server).Service,
	fill:  (*Service).take,
	remove: func(ctx context.Context, server *client.Server, name string) ([]string, error) {
		return nil, server.DeleteService(ctx, name)
	},
}

var service = definition.Resource[*Connections, Service]{
	Name:     "service",
	Doc:      "Replicas of a container, kept running.",
	ImportID: "The ID is `NAME@ENDPOINT`, with the endpoint of the cluster.",
	// Longer than a rollout's own progress_deadline, which says more.
	Timeouts: definition.Timeouts{Create: 20 * time.Minute, Read: time.Minute, Update: 20 * time.Minute, Delete: 5 * time.Minute},
	Check:    checkService,
	Plan:     services.plan,
	Clash:    samePorts,
	Create:   createService,
	Read:     services.read,
	Update:   func(ctx context.Context, c *Connections, _, s *Service) error { return putService(ctx, c, s) },
	Delete:   services.delete,
	Import:   services.importer,
}

func checkService(s *Service) resources.Problems {
	p := s.Validate()
	checkCluster(&p, s.Cluster)
	return p
}

func (s *Service) fill(status resources.ServiceStatus) {
	s.Revision, s.ImageDigest = status.Revision, status.ImageDigest
	s.CurrentReplicas, s.ReadyReplicas, s.State = status.Count, status.Ready, string(status.State)
	s.Addresses, s.VirtualIPs = nil, map[string]string{}
	for _, has := range status.VirtualIPs {
		s.VirtualIPs[has.Network] = has.Address.String()
	}
	for _, r := range status.Replicas {
		if r.Wanted {
			s.Addresses = append(s.Addresses, r.Published...)
		}
	}
	// Replicas of one node are reached at the same.
	slices.Sort(s.Addresses)
	s.Addresses = slices.Compact(s.Addresses)
}

// take takes all of the service as the control plane has it.
func (s *Service) take(status resources.ServiceStatus) []string {
	s.Service = status.Service
	s.fill(status)
	// A plan compares what is wanted, and would call this up to date.
	if status.State == resources.ServiceFailed || status.State == resources.ServiceWaiting {
		return []string{fmt.Sprintf("service %s does not run as it is wanted: %s", s.Name, status.Message)}
	}
	return nil
}

func createService(ctx context.Context, c *Connections, s *Service) error {
	err := putService(ctx, c, s)
	if err != nil && s.Revision > 0 {
		return &definition.Partial{Err: err}
	}
	return err
}

// putService puts the service and returns when its revision runs, or with what
// keeps it from running.
func putService(ctx context.Context, c *Connections, s *Service) error {
	server, _, err := c.server(s.Cluster)
	if err != nil {
		return err
	}
	status, err := server.PutService(ctx, s.Service)
	if err != nil {
		return err
	}
	s.fill(status)
	if s.Autoscale != nil && status.Service.Autoscale == nil {
		return fmt.Errorf("service %s: autoscale: the control plane has an earlier version, which can't do this: upgrade the cluster first (`version` of skerry_cluster)", s.Name)
	}
	revision := status.Revision
	err = server.WatchService(ctx, s.Name, func(now resources.ServiceStatus) (bool, error) {
		if now.Revision < revision {
			return true, nil
		}
		status = now
		s.fill(now)
		return outcome(revision, now)
	})
	if errors.Is(err, api.ErrGone) {
		return fmt.Errorf("service %s was removed while it was waited for", s.Name)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("service %s has %d of %d replicas running: %w%s", s.Name, status.Ready, status.Count, context.Cause(ctx), where(status))
	}
	return err
}

// outcome says what has come of the revision that was put: more to wait for,
// nothing, or what went wrong. A rollback is waited for as well, so that the
// error tells what runs in the end.
func outcome(revision int, now resources.ServiceStatus) (more bool, err error) {
	name, failed := now.Service.Name, now.State == resources.ServiceFailed || now.State == resources.ServiceWaiting
	back := now.Revision > revision && now.RolledBack == revision
	switch {
	case now.Revision > revision && !back:
		return false, fmt.Errorf("service %s was changed by somebody else meanwhile: revision %d came after revision %d; plan again", name, now.Revision, revision)
	case back && now.State == resources.ServiceRunning:
		return false, fmt.Errorf("service %s: %s\nRevision %d runs in its place, with what ran before. Correct the service, and apply again", name, now.Message, now.Revision)
	case back && failed:
		return false, fmt.Errorf("service %s: its rollback to what ran before can't run either: %s", name, now.Message)
	case failed && now.Stable > 0 && now.Stable != revision:
		return false, fmt.Errorf("service %s: revision %d can't run: %s\nThe rollout is paused (update.on_failure): what ran before goes on as far as it was not replaced, and the rollout goes on once the new replicas run", name, revision, now.Message)
	case failed:
		return false, fmt.Errorf("service %s can't run: %s", name, now.Message)
	default:
		return now.State != resources.ServiceRunning, nil
	}
}

// where tells of the replicas that don't run, or don't do their work.
func where(status resources.ServiceStatus) string {
	var b strings.Builder
	for _, r := range status.Replicas {
		if r.Status.State != resources.ReplicaRunning || r.Status.NotReady {
			fmt.Fprintf(&b, "\n  %s on %s: %s %s %s", r.ID, r.NodeName, r.Status.State, r.Status.Reason, r.Status.Message)
		}
	}
	return b.String()
}
