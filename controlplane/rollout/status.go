package rollout

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Status says where the service stands.
func Status(service resources.ServiceRecord, replicas []resources.Replica, v View) resources.ServiceStatus {
	all := ordered(replicas)
	s := look(service, all, v, false)
	status := resources.ServiceStatus{
		Service: service.Service, Revision: service.Revision, ImageDigest: service.ImageDigest,
		State: resources.ServiceRolling, RolledBack: service.Rollout.RolledBack,
		VirtualIPs: service.VirtualIPs, Replicas: []resources.ReplicaSummary{},
	}
	// Of a record of an earlier version, the settings are what holds for it now.
	status.Service.Update = s.update
	if service.Stable != nil {
		status.Stable = service.Stable.Number
	}
	for i, r := range all {
		status.Replicas = append(status.Replicas, summary(r, v))
		if k := s.replicas[i]; k.current && k.state == up && !finished(v.Seen[r.ID]) {
			status.Ready++
		}
	}
	why := s.stuck()
	if why == "" {
		why = s.failure
	}
	switch {
	case service.Deleting:
	case why != "" && s.rolling && s.goesBack():
		// The leader is about to, and what comes of that is yet to be seen.
		status.Message = why
	case why != "" && s.roomless && !s.rolling:
		status.State, status.Message = resources.ServiceWaiting, why
	case why != "":
		status.State, status.Message = resources.ServiceFailed, why
	case s.complete() && !s.rolling || s.resting():
		// One that is complete and rolling has yet to be remembered as what a rollback
		// goes back to: who is told that it runs may change it at once.
		status.State = resources.ServiceRunning
	default:
		status.Message = s.waitsForNode()
	}
	if gone := service.Rollout.RolledBack; gone > 0 {
		status.Message = strings.TrimPrefix(fmt.Sprintf("%s\nrevision %d was rolled back: %s", status.Message, gone, service.Rollout.Reason), "\n")
	}
	return status
}

func summary(r *resources.Replica, v View) resources.ReplicaSummary {
	s, heard := v.Seen[r.ID]
	if !heard {
		s = resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaPending, Message: r.Waiting}
	}
	node := v.Nodes[r.Node]
	summary := resources.ReplicaSummary{ID: r.ID, Addresses: r.Addresses, Revision: r.Revision, Node: r.Node, NodeName: node.Name, Wanted: r.Wanted, Status: s}
	if v.Lost[r.Node] {
		summary.Status = resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaLost, Message: "its node is silent"}
	} else {
		summary.Published = published(r, node)
	}
	return summary
}

func published(r *resources.Replica, node resources.NodeInfo) []string {
	if len(node.Addresses) == 0 {
		return nil
	}
	var all []string
	for _, port := range r.Template.Ports {
		all = append(all, net.JoinHostPort(node.Addresses[0], strconv.Itoa(port.Node())))
	}
	return all
}
