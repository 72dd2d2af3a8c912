package resources

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Endpoint is the way to the API of one machine: a unix socket, on this
// machine or behind SSH. Its text is a URI that needs nothing beside it:
//
//	ssh://user@host[:port]/socket?node=ID&hostkey=SHA256:...&bastion=user@host&cluster=ID&hypervisor=URI
//	ssh://user@host[:port]
//	unix:///socket
//
// The short form, without a path, is for machines that were there before skerry:
// it leads to the agent, whether that is there yet or not.
type Endpoint struct {
	// Host is the SSH server, or empty for a socket on this machine.
	Host string
	// Port of the SSH server; 22 where empty.
	Port string
	// User to log in as; root where empty.
	User string
	// Socket is the absolute path of the unix socket on the machine.
	Socket string
	// Node that answers there, where known.
	Node NodeID
	// HostKey pins the SSH host key by its fingerprint, `SHA256:...`. Where it is
	// empty, the key is one that the user's known_hosts has.
	HostKey string
	// Bastion is the host to go through, `user@host[:port]`, or empty.
	Bastion string
	// Cluster that the node serves, where it is a server.
	Cluster ClusterID
	// Hypervisor is the libvirt URI of the VM's host, or empty where the
	// machine is no VM of skerry's. It is asked when the machine is silent:
	// only it can say that the machine is gone for good.
	Hypervisor string
}

// The sockets of a node, with its directory in tmpfs.
const (
	AgentSocket  = "/run/skerry/agent.sock"
	ServerSocket = "/run/skerry/server.sock"
)

// ParseEndpoint reads the text that String writes.
func ParseEndpoint(text string) (Endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%q is not an endpoint: %w", text, err)
	}
	query := u.Query()
	e := Endpoint{
		Host: u.Hostname(), Port: u.Port(), User: u.User.Username(), Socket: u.Path,
		// People paste fingerprints as ssh-keygen prints them, where + is no space.
		Node: NodeID(query.Get("node")), HostKey: strings.ReplaceAll(query.Get("hostkey"), " ", "+"), Bastion: query.Get("bastion"),
		Cluster: ClusterID(query.Get("cluster")), Hypervisor: query.Get("hypervisor"),
	}
	if u.Scheme == "ssh" && strings.Trim(e.Socket, "/") == "" {
		e.Socket = AgentSocket
	}
	switch {
	case u.Scheme != "ssh" && u.Scheme != "unix":
		err = errors.New("it begins with ssh:// or unix://")
	case u.Scheme == "ssh" && e.Host == "":
		err = errors.New("the host is missing")
	case u.Scheme == "ssh" && !isHost(e.Host):
		err = errors.New("the host is neither a name nor an address")
	case u.Scheme == "unix" && (e.Host != "" || e.User != ""):
		err = errors.New("a unix socket has three slashes: unix:///path")
	case !strings.HasPrefix(e.Socket, "/") || len(e.Socket) < 2:
		err = errors.New("the path of the socket is missing")
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("%q is not an endpoint: %w; take it from a skerry_node's or skerry_cluster's endpoint, or name a machine that is there already by ssh://user@host", text, err)
	}
	return e, nil
}

func isHost(host string) bool {
	if strings.Contains(host, ":") {
		addr, err := netip.ParseAddr(host)
		return err == nil && addr.Zone() == ""
	}
	return hostPattern.MatchString(host)
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?$`)

// String gives the text that ParseEndpoint reads.
func (e Endpoint) String() string {
	u := url.URL{Scheme: "unix", Path: e.Socket}
	if e.Host != "" {
		u.Scheme, u.Host = "ssh", e.Host
		if strings.Contains(e.Host, ":") {
			u.Host = "[" + e.Host + "]"
		}
		if e.Port != "" {
			u.Host += ":" + e.Port
		}
		if e.User != "" {
			u.User = url.User(e.User)
		}
	}
	query := url.Values{}
	for _, item := range [][2]string{
		{"node", string(e.Node)},
		{"hostkey", e.HostKey},
		{"bastion", e.Bastion},
		{"cluster", string(e.Cluster)},
		{"hypervisor", e.Hypervisor},
	} {
		if item[1] != "" {
			query.Set(item[0], item[1])
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// Given is true for a machine that its user names by where it is: it was there
// before skerry, which puts itself on it.
func (e Endpoint) Given() bool { return e.Host != "" && e.Node == "" && e.Socket == AgentSocket }

// Place tells machines apart that have no ID yet.
func (e Endpoint) Place() string {
	if e.Host == "" {
		return e.Socket
	}
	port := e.Port
	if port == "" {
		port = "22"
	}
	return net.JoinHostPort(e.Host, port) + " " + e.Bastion
}

// ParseEndpoints reads a cluster's endpoint: one or more endpoints, with a
// comma between.
func ParseEndpoints(text string) ([]Endpoint, error) {
	var all []Endpoint
	for part := range strings.SplitSeq(text, ",") {
		e, err := ParseEndpoint(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// FormatEndpoints writes what ParseEndpoints reads, sorted, so that the same
// servers always give the same text.
func FormatEndpoints(all []Endpoint) string {
	texts := make([]string, len(all))
	for i, e := range all {
		texts[i] = e.String()
	}
	slices.Sort(texts)
	return strings.Join(texts, ",")
}
