package rollout

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// FailuresToReport is how often a replica may fail before its service counts as
// failed: an image or a port that is free a second later is no failure.
const FailuresToReport = 3

// Status says where the service stands.
func Status(service resources.ServiceRecord, replicas []resources.Replica, seen Seen, nodes map[resources.NodeID]resources.NodeInfo) resources.ServiceStatus {
	status := resources.ServiceStatus{
		Service: service.Service, Revision: service.Revision, ImageDigest: service.ImageDigest,
		State: resources.ServiceRunning, Replicas: []resources.ReplicaSummary{},
	}
	done := 0
	for _, r := range ordered(replicas) {
		s, heard := seen[r.ID]
		if !heard {
			s = resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaPending, Message: r.Waiting}
		}
		node := nodes[r.Node]
		status.Replicas = append(status.Replicas, resources.ReplicaSummary{
			ID: r.ID, Revision: r.Revision, Node: r.Node, NodeName: node.Name, Wanted: r.Wanted,
			Status: s, Published: published(r, node),
		})
		current := r.Wanted && r.Revision == service.Revision
		if current && s.State == resources.ReplicaRunning {
			status.Ready++
		}
		if current && settled(s) {
			done++
		} else {
			status.State = resources.ServiceRolling
		}
		if text := failure(r, s, node); current && text != "" && status.Message == "" {
			status.Message = text
		}
	}
	switch {
	case status.Message != "":
		status.State = resources.ServiceFailed
	case done != service.Service.Replicas || service.Deleting:
		status.State = resources.ServiceRolling
	}
	return status
}

func published(r resources.Replica, node resources.NodeInfo) []string {
	if len(node.Addresses) == 0 {
		return nil
	}
	var all []string
	for _, port := range r.Template.Ports {
		all = append(all, net.JoinHostPort(node.Addresses[0], strconv.Itoa(port.Node())))
	}
	return all
}

// failure says why a replica can't run, or nothing while it still may.
func failure(r resources.Replica, s resources.ReplicaStatus, node resources.NodeInfo) string {
	if r.Node == "" && r.Waiting != "" && !r.MayWait {
		return fmt.Sprintf("replica %s: %s: %s", r.ID, resources.ReasonNoPlace, r.Waiting)
	}
	failed := s.State == resources.ReplicaBackoff && s.Failures >= FailuresToReport ||
		s.State == resources.ReplicaExited && !finished(s)
	if !failed {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "replica %s on node %s: %s: %s", r.ID, node.Name, s.Reason, s.Message)
	if s.ExitCode != nil && s.Reason != resources.ReasonImagePull {
		fmt.Fprintf(&b, " (exit code %d)", *s.ExitCode)
	}
	if len(s.LogTail) > 0 {
		b.WriteString("\nIts last log lines:\n  " + strings.Join(s.LogTail, "\n  "))
	}
	return b.String()
}
