package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/skerry-io/skerry/resources"
)

// Agent is the API of one node's agent.
type Agent struct{ *connection }

// Agent returns the API of the node at the endpoint.
func (d *Dialer) Agent(endpoint resources.Endpoint) *Agent {
	return &Agent{d.connection([]resources.Endpoint{endpoint})}
}

// Node tells what the machine is and has.
func (a *Agent) Node(ctx context.Context) (resources.NodeInfo, error) {
	var node resources.NodeInfo
	err := a.call(ctx, http.MethodGet, "/v1/node", nil, &node)
	return node, wrap(err, "ask the agent at %s", nodeOf(a.endpoints))
}

// Await returns when the agent answers, or with the last failure when ctx ends.
// It bears with another host key and with a refused login for a while: a
// machine at its first boot may show its image's before it has its own.
func (a *Agent) Await(ctx context.Context) (resources.NodeInfo, error) {
	var node resources.NodeInfo
	err := a.callWith(ctx, booting, http.MethodGet, "/v1/node", nil, &node)
	return node, wrap(err, "wait for the agent at %s", nodeOf(a.endpoints))
}

// PutSettings changes what may change while the node runs.
func (a *Agent) PutSettings(ctx context.Context, settings resources.NodeSettings) (resources.NodeInfo, error) {
	var node resources.NodeInfo
	err := a.call(ctx, http.MethodPut, "/v1/node/settings", settings, &node)
	return node, wrap(err, "change the settings of the node")
}

// Grow grows the node's file systems to their disks.
func (a *Agent) Grow(ctx context.Context) error {
	return wrap(a.call(ctx, http.MethodPost, "/v1/node/grow", nil, nil), "grow the node's file systems")
}

// Join makes the node a member of a cluster. Where no certificate comes with
// it, the node becomes the first server of a new one, and Join returns when
// that answers. It is an error where the node is in another cluster.
func (a *Agent) Join(ctx context.Context, join resources.Join) error {
	return wrap(a.call(ctx, http.MethodPut, "/v1/cluster", join, nil), "make the node at %s join cluster %s", nodeOf(a.endpoints), join.Cluster.Name)
}

// CertificateRequest gives the request for the certificate that lets the node
// into a cluster.
func (a *Agent) CertificateRequest(ctx context.Context) (resources.CertificateRequest, error) {
	var request resources.CertificateRequest
	err := a.call(ctx, http.MethodPost, "/v1/node/certificate-request", nil, &request)
	return request, wrap(err, "ask the node at %s for its certificate request", nodeOf(a.endpoints))
}

// Reach lets the node try which others it reaches, and returns those that it does
// not, each with the Problem.
func (a *Agent) Reach(ctx context.Context, others []resources.Neighbour) ([]resources.Neighbour, error) {
	var unreached []resources.Neighbour
	err := a.call(ctx, http.MethodPost, "/v1/node/reach", others, &unreached)
	return unreached, wrap(err, "ask the node at %s which others it reaches", nodeOf(a.endpoints))
}

// Leave moves the node's replicas elsewhere, before its machine goes away. It
// returns when that is done, or with the reason why it isn't when ctx ends. Where
// some would have nowhere to go, it moves none and says so; with force it moves
// those that can go, and says so then.
func (a *Agent) Leave(ctx context.Context, force bool) error {
	path := "/v1/node/leave"
	if force {
		path += "?force"
	}
	return wrap(a.callWith(ctx, once, http.MethodPost, path, nil, nil), "move the replicas of the node elsewhere")
}

// Forget ends what the cluster runs on this node, its control plane included,
// and removes all that the node keeps of it. A node that is in no cluster, or
// in another one, is left as it is.
func (a *Agent) Forget(ctx context.Context, id resources.ClusterID) error {
	return wrap(a.call(ctx, http.MethodDelete, "/v1/cluster?cluster="+url.QueryEscape(string(id)), nil, nil), "make the node at %s forget its cluster", nodeOf(a.endpoints))
}
