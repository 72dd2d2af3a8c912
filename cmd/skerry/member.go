package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/controlplane/server"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// member is this node as a server of its cluster.
type member struct {
	self resources.ServerAddress
	// alone is true for a control plane that other machines don't reach, as
	// under skerry dev.
	alone bool
}

// member finds out who and where this server is.
func (p places) member(cluster resources.ClusterConfig) (member, error) {
	node, err := agent.Node(p.data)
	if err != nil {
		return member{}, err
	}
	m := member{self: resources.ServerAddress{Node: node.ID}, alone: p.alone}
	if m.alone {
		return m, nil
	}
	// The address stays the one by which the others know it.
	for _, s := range cluster.Servers {
		if s.Node == node.ID {
			m.self = s
		}
	}
	if m.self.Host == "" {
		m.self.Host = p.address
	}
	if m.self.Host == "" {
		addresses := agent.Addresses()
		if len(addresses) == 0 {
			return m, errors.New("this node has no address by which others could reach its control plane: no network card is up")
		}
		m.self.Host = addresses[0]
	}
	return m, nil
}

// secretAuthority is the name of the authority in the store.
const secretAuthority = "authority"

func (p places) authorityFile() string { return filepath.Join(p.data, agent.PKIDir, "authority.json") }

// found makes the authority of a new cluster, unless a snapshot brought it, and
// the certificate of its first server: its store needs them to begin. The
// authority's key is moved to the store once that is open.
func (m member) found(p places, cluster resources.ClusterConfig) error {
	if m.alone || len(cluster.Server.Join) > 0 {
		return nil
	}
	if _, err := agent.Credentials(p.data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	pair, err := p.newAuthority(cluster.ID)
	if err != nil {
		return err
	}
	authority, err := pki.ReadAuthority(pair)
	if err != nil {
		return err
	}
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	request, err := pki.NewRequest(key)
	if err != nil {
		return err
	}
	certificate, err := authority.Sign(request, m.self.Node, true, time.Now())
	if err != nil {
		return err
	}
	return agent.PutCredentials(p.data, pki.Credentials{Pair: pki.Pair{Certificate: certificate, Key: key}, Authority: pair.Certificate})
}

// newAuthority gives the authority that a cluster begins with.
func (p places) newAuthority(cluster resources.ClusterID) (pki.Pair, error) {
	var pair pki.Pair
	text, err := os.ReadFile(p.authorityFile())
	switch {
	case err == nil:
		if err := json.Unmarshal(text, &pair); err != nil {
			return pair, fmt.Errorf("read the cluster's authority: %w", err)
		}
		return pair, nil
	case !errors.Is(err, fs.ErrNotExist):
		return pair, fmt.Errorf("read the cluster's authority: %w", err)
	}
	if pair, err = pki.NewAuthority(cluster, time.Now()); err != nil {
		return pair, err
	}
	if text, err = json.Marshal(pair); err != nil {
		return pair, fmt.Errorf("keep the cluster's authority: %w", err)
	}
	return pair, p.keepAuthority(text)
}

// keepAuthority keeps the authority until it is in the store.
func (p places) keepAuthority(text []byte) error {
	if err := os.MkdirAll(filepath.Dir(p.authorityFile()), 0o700); err != nil {
		return fmt.Errorf("keep the cluster's authority: %w", err)
	}
	if err := os.WriteFile(p.authorityFile(), text, 0o600); err != nil {
		return fmt.Errorf("keep the cluster's authority: %w", err)
	}
	return nil
}

// authority reads the cluster's authority from the store, and puts it there
// first where this server has made it.
func (m member) authority(ctx context.Context, p places, etcd *store.Etcd) (*pki.Authority, error) {
	if m.alone {
		return nil, nil
	}
	text, err := os.ReadFile(p.authorityFile())
	if err == nil {
		if err := etcd.PutSecret(ctx, secretAuthority, text); err != nil && !errors.Is(err, store.ErrStale) {
			return nil, fmt.Errorf("keep the cluster's authority: %w", err)
		}
		if err := os.Remove(p.authorityFile()); err != nil {
			return nil, fmt.Errorf("keep the cluster's authority in the store only: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the cluster's authority: %w", err)
	}
	if text, err = etcd.Secret(ctx, secretAuthority); err != nil {
		return nil, err
	}
	var pair pki.Pair
	if err := json.Unmarshal(text, &pair); err != nil {
		return nil, fmt.Errorf("read the cluster's authority from the store: %w", err)
	}
	return pki.ReadAuthority(pair)
}

// store is how this server takes part in the store.
func (m member) store(p places, cluster resources.ClusterConfig) store.Member {
	s := store.Member{Dir: p.etcd(), Run: p.run, Node: m.self.Node, Join: cluster.Server.Join}
	if !m.alone {
		s.Peer, s.PKI = m.self.Peer(), filepath.Join(p.data, agent.PKIDir)
	}
	return s
}

// listener is a socket, and what is served there.
type listener struct {
	net.Listener
	handler http.Handler
}

// listen opens the socket for people and plugins, and the port for nodes.
func (m member) listen(p places, s *server.Server) ([]listener, error) {
	socket, err := listen(p.serverEndpoint().Socket)
	if err != nil {
		return nil, err
	}
	all := []listener{{socket, s.Handler()}}
	if m.alone {
		return all, nil
	}
	port, err := net.Listen("tcp", net.JoinHostPort("", resources.ServerPort))
	if err != nil {
		socket.Close() //nolint:errcheck // nobody was served
		return nil, fmt.Errorf("serve the nodes of the cluster: %w", err)
	}
	return append(all, listener{tls.NewListener(port, p.tls()), s.NodeHandler()}), nil
}

// tls is for what other nodes connect to. The certificate is read for each
// connection: the agent renews it.
func (p places) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := agent.Credentials(p.data)
		if err != nil {
			return nil, err
		}
		return c.Server()
	}}
}

// listenForServers opens the agent's port for the servers of its cluster.
func (p places) listenForServers() (net.Listener, error) {
	if p.alone {
		return nil, nil
	}
	port, err := net.Listen("tcp", net.JoinHostPort("", resources.AgentPort))
	if err != nil {
		return nil, fmt.Errorf("serve the servers of the cluster: %w", err)
	}
	return tls.NewListener(port, p.tls()), nil
}

// dialAgent connects to the agent of a node, this one's or another's.
func (p places) dialAgent(ctx context.Context, node resources.NodeInfo) (net.Conn, error) {
	self, err := agent.Node(p.data)
	if err != nil {
		return nil, err
	}
	if self.ID == node.ID {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.socket(filepath.Base(resources.AgentSocket)))
	}
	c, err := agent.Credentials(p.data)
	if err != nil {
		return nil, err
	}
	return client.DialAgent(ctx, c, node)
}

func (p places) dialServer(ctx context.Context, to resources.ServerAddress) (net.Conn, error) {
	c, err := agent.Credentials(p.data)
	if err != nil {
		return nil, err
	}
	return client.DialServer(ctx, c, to)
}

// way is how the agent of this node reaches the control plane.
func (p places) way() (client.Way, error) {
	cluster, found, err := agent.Cluster(p.data)
	if err != nil {
		return client.Way{}, err
	}
	if !found {
		return client.Way{}, errors.New("this node is in no cluster")
	}
	w := client.Way{Servers: cluster.Servers}
	if cluster.Server != nil {
		w.Socket = p.serverEndpoint().Socket
	}
	if p.alone {
		return w, nil
	}
	w.Credentials, err = agent.Credentials(p.data)
	return w, err
}

// election is etcd's, with the types of its consumer.
type election struct{ *store.Etcd }

func (e election) Campaign(ctx context.Context, value string) (server.Term, error) {
	term, err := e.Etcd.Campaign(ctx, value)
	if err != nil {
		return nil, err
	}
	return term, nil
}
