package provider

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/libvirtnodes"
	"github.com/skerry-io/skerry/provider/binary"
	"github.com/skerry-io/skerry/resources"
)

// Settings is what a user writes about the provider itself.
type Settings struct {
	// Libvirt URI of the hypervisor of nodes that name none, such as `qemu:///system` or `qemu+ssh://root@host/system`. `qemu:///system` unless given.
	Hypervisor string `json:"hypervisor,omitempty" iac:"optional"`
	// How VMs are run: `kvm`, `qemu` (emulated), or `auto`, which takes what works. The environment variable `SKERRY_VIRTUALIZATION` unless given, and else `auto`.
	Virtualization string `json:"virtualization,omitempty" iac:"optional"`
	// What to do about machines that don't answer when something on them is to be removed: `fail`, the default, or `forget`, which removes it from the state.
	Unreachable string `json:"unreachable,omitempty" iac:"optional"`
	// How to log in to nodes.
	SSH *SSH `json:"ssh,omitempty" iac:"optional"`
}

// SSH is how the plugin logs in to nodes.
type SSH struct {
	// User to log in as, on machines whose endpoint names none. `root` unless given.
	User string `json:"user,omitempty" iac:"optional"`
	// Path of the private key. The keys of the SSH agent and of `~/.ssh` unless given.
	Key string `json:"key,omitempty" iac:"optional"`
	// Use the keys of the SSH agent at `SSH_AUTH_SOCK`.
	Agent bool `json:"agent,omitempty" iac:"default=true"`
	// Host to go through, `user@host[:port]`. The host of a `qemu+ssh` hypervisor unless given.
	Bastion string `json:"bastion,omitempty" iac:"optional"`
}

// DefaultHypervisor is libvirt's own default for root.
const DefaultHypervisor = "qemu:///system"

// virtualizationVariable forces how VMs are run, over `auto`.
const virtualizationVariable = "SKERRY_VIRTUALIZATION"

func checkSettings(s *Settings) resources.Problems {
	var p resources.Problems
	oneOf := func(path, value string, allowed ...string) {
		if value == "" || slices.Contains(allowed, value) {
			return
		}
		p.Addf(path, "is %q; it is one of %s", value, strings.Join(allowed, ", "))
	}
	oneOf("virtualization", s.Virtualization, "auto", "kvm", "qemu")
	oneOf("unreachable", s.Unreachable, "fail", "forget")
	return p
}

// Connections is what the resources work with: the provider's settings, and the
// ways to hypervisors and machines.
type Connections struct {
	settings    Settings
	hypervisors *libvirtnodes.Hypervisors
	machines    *client.Dialer
	// program gives the skerry program for a GOARCH.
	program func(arch string) ([]byte, error)
	// version of that program, and of this plugin.
	version string
	log     *slog.Logger
}

// connect makes the connections. It reaches for nothing: each is made when it
// is needed first.
func connect(log *slog.Logger, version string) func(context.Context, *Settings) (*Connections, error) {
	return func(_ context.Context, s *Settings) (*Connections, error) {
		ssh := SSH{Agent: true}
		if s.SSH != nil {
			ssh = *s.SSH
		}
		c := &Connections{settings: *s, hypervisors: libvirtnodes.New(log), program: binary.For, version: version, log: log}
		c.machines = client.NewDialer(client.Options{User: ssh.User, Key: ssh.Key, Agent: ssh.Agent, Log: log})
		return c, nil
	}
}

func (c *Connections) hypervisor(n *resources.Node) string {
	switch {
	case n.Hypervisor != "":
		return n.Hypervisor
	case c.settings.Hypervisor != "":
		return c.settings.Hypervisor
	default:
		return DefaultHypervisor
	}
}

func (c *Connections) virtualization(n *resources.Node) string {
	for _, choice := range []string{n.Virtualization, c.settings.Virtualization, os.Getenv(virtualizationVariable)} {
		if choice != "" && choice != "auto" {
			return choice
		}
	}
	return "auto"
}

// bastion is the host to go through to VMs of a hypervisor: VMs on a NAT
// network are reached from there only.
func (c *Connections) bastion(hypervisor string) string {
	if c.settings.SSH != nil && c.settings.SSH.Bastion != "" {
		return c.settings.SSH.Bastion
	}
	u, err := url.Parse(hypervisor)
	if err != nil || !strings.HasSuffix(u.Scheme, "+ssh") && !strings.HasSuffix(u.Scheme, "+libssh") && !strings.HasSuffix(u.Scheme, "+libssh2") {
		return ""
	}
	if name := u.User.Username(); name != "" {
		return name + "@" + u.Host
	}
	return u.Host
}

// agentEndpoint and serverEndpoint give the two sockets of a machine from
// either of them.
func agentEndpoint(e resources.Endpoint) resources.Endpoint {
	return withSocket(e, "agent.sock")
}

func serverEndpoint(e resources.Endpoint, id resources.ClusterID) resources.Endpoint {
	e = withSocket(e, "server.sock")
	e.Cluster = id
	return e
}

func withSocket(e resources.Endpoint, name string) resources.Endpoint {
	e.Socket = e.Socket[:strings.LastIndex(e.Socket, "/")+1] + name
	return e
}

// vanished explains a machine that does not answer: gone where its hypervisor
// says that it has no such machine, or where the user wants it forgotten. The
// warning says which.
func (c *Connections) vanished(endpoints []resources.Endpoint) (gone bool, warning string) {
	if c.settings.Unreachable == "forget" {
		return true, `the machine does not answer, and is forgotten because of unreachable = "forget": whatever runs there still runs`
	}
	for _, e := range endpoints {
		if e.Hypervisor == "" || e.Node == "" {
			return false, ""
		}
		host, err := c.hypervisors.Host(e.Hypervisor)
		if err != nil {
			return false, ""
		}
		if found, err := host.HasMachine(e.Node); err != nil || found {
			return false, ""
		}
	}
	return true, "the machine that it ran on is gone from its hypervisor, and so is it"
}

// unreachable explains why a delete was given up.
func unreachable(err error) error {
	return fmt.Errorf(`%w: bring the machine back, or set unreachable = "forget" in the provider to remove it from the state only`, err)
}
