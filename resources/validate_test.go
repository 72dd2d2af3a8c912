package resources

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func validNode() Node {
	return Node{Name: "n1", Image: NodeImage{Source: "node.qcow2"}, CPUs: 2, Memory: 2 * GiB, Disk: 10 * GiB}
}

func validService() Service {
	s := Service{Name: "web", Replicas: 1, Template: Template{Image: "nginx:1.27"}}
	s.SetDefaults()
	return s
}

func TestValidValuesHaveNoProblem(t *testing.T) {
	n, s := validNode(), validService()
	c := Cluster{Name: "home", Servers: []string{"unix:///run/skerry/agent.sock"}}
	i := Image{Name: "team/web", Archive: "web.tar"}
	for name, got := range map[string]Problems{"node": n.Validate(), "service": s.Validate(), "cluster": c.Validate(), "image": i.Validate()} {
		if got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Each case breaks a valid value in one or two ways and names the attributes
// whose problems must all be returned, in this order.
func TestProblemsNameTheAttribute(t *testing.T) {
	node := func(change func(*Node)) Problems { n := validNode(); change(&n); return n.Validate() }
	cluster := func(change func(*Cluster)) Problems {
		c := Cluster{Name: "home", Servers: []string{"unix:///run/skerry/agent.sock"}}
		change(&c)
		return c.Validate()
	}
	service := func(change func(*Service)) Problems { s := validService(); change(&s); return s.Validate() }
	for name, c := range map[string]struct {
		got  Problems
		want []string
	}{
		"long name":       {node(func(n *Node) { n.Name = strings.Repeat("a", 64) }), []string{"name"}},
		"upper-case name": {node(func(n *Node) { n.Name = "Node" }), []string{"name"}},
		"too small":       {node(func(n *Node) { n.Memory, n.Disk, n.CPUs = MiB, MiB, 0 }), []string{"cpus", "memory", "disk"}},
		"checksum":        {node(func(n *Node) { n.Image.Checksum = "md5:00" }), []string{"image.checksum"}},
		"two networks":    {node(func(n *Node) { n.Networks = []Attachment{{Network: "a", Bridge: "b"}} }), []string{"networks[0]"}},
		"gateway alone":   {node(func(n *Node) { n.Networks = []Attachment{{Network: "a", Gateway: "10.0.0.1"}} }), []string{"networks[0].address"}},
		"gateway outside": {node(func(n *Node) { n.Networks = []Attachment{{Network: "a", Address: "10.0.0.2/24", Gateway: "10.1.0.1"}} }), []string{"networks[0].gateway"}},
		"private key":     {node(func(n *Node) { n.AuthorizedKeys = []string{"-----BEGIN\nKEY"} }), []string{"authorized_keys[0]"}},
		"label":           {node(func(n *Node) { n.Labels = map[string]string{"a b": "c"} }), []string{"labels"}},
		"taints":          {node(func(n *Node) { n.Taints = []string{"gpu", "a=b:NoSchedule", "a=c:NoSchedule"} }), []string{"taints[0]", "taints[2]"}},
		"logs":            {service(func(s *Service) { s.Logs = &Logs{MaxSize: KiB, MaxFiles: -1} }), []string{"logs.max_size", "logs.max_files"}},
		"logs too large":  {service(func(s *Service) { s.Logs = &Logs{MaxSize: GiB, MaxFiles: 2000} }), []string{"logs"}},
		"mode":            {service(func(s *Service) { s.Mode = "daemon" }), []string{"mode"}},
		"placement": {service(func(s *Service) {
			s.Placement = &Placement{
				Constraints: []string{"zone == a", "zone = a", "service == db"}, Spread: []string{"zone", "a b", "zone"}, Strategy: "random",
				Affinity: []string{"service == web", "disk == ssd"}, AntiAffinity: []string{`disk == "ssd"`, "service == web"},
				Tolerations: []string{"gpu:Never"}, MaxReplicasPerNode: -1, Priority: 1001,
			}
		}), []string{
			"placement.constraints[1]", "placement.constraints[2]", "placement.spread[1]", "placement.spread[2]", "placement.strategy",
			"placement.affinity[0]", "placement.anti_affinity[0]", "placement.anti_affinity[1]", "placement.tolerations[0]",
			"placement.max_replicas_per_node", "placement.priority",
		}},
		"negative":        {service(func(s *Service) { s.Replicas = -1 }), []string{"replicas"}},
		"image":           {service(func(s *Service) { s.Image = "a b" }), []string{"image"}},
		"policy, restart": {service(func(s *Service) { s.PullPolicy, s.Restart = "sometimes", "maybe" }), []string{"pull_policy", "restart"}},
		"port twice": {service(func(s *Service) {
			s.Ports = []Port{{Target: 80, Protocol: "tcp"}, {Target: 81, Published: 80, Protocol: "tcp"}}
		}), []string{"ports[1].published"}},
		"node's own ports": {service(func(s *Service) {
			s.Ports = []Port{{Target: 22}, {Target: 53, Published: 5059, Protocol: "udp"}, {Target: 22, Protocol: "udp"}, {Target: 5058, Protocol: "tcp"}}
		}), []string{"ports[0].published", "ports[1].published", "ports[3].published"}},
		"port range": {service(func(s *Service) { s.Ports = []Port{{Target: 0, Published: 70000, Protocol: "sctp"}} }), []string{"ports[0].target", "ports[0].published", "ports[0].protocol"}},
		"secrets": {service(func(s *Service) {
			below := -1
			s.Env = map[string]string{"A": "b"}
			s.Mounts = []Mount{{Volume: "v", Path: "/run/secrets/taken"}}
			s.Secrets = []SecretMount{
				{Secret: "taken"}, {Secret: "a", Env: "A"}, {Secret: "b", Env: "1="}, {Secret: "c", Env: "C", FileMount: FileMount{Path: "/c"}},
				{Secret: "Upper", FileMount: FileMount{Path: "relative", Mode: "999", UID: &below}}, {Secret: "d"}, {Secret: "d"},
			}
			s.Configs = []ConfigMount{{Config: "e", FileMount: FileMount{Path: "/run/secrets/d"}}}
		}), []string{
			"secrets[0].path", "secrets[1].env", "secrets[2].env", "secrets[3].env",
			"secrets[4].secret", "secrets[4].path", "secrets[4].mode", "secrets[4].uid", "secrets[6].path", "configs[0].path",
		}},
		"registry_auth": {service(func(s *Service) { s.RegistryAuth = &RegistryAuth{Username: "a:b"} }), []string{"registry_auth.username"}},
		"registries": {cluster(func(c *Cluster) {
			c.Registries = map[string]RegistryAccess{"https://a": {}, "b.lan": {Mirrors: []string{"c.lan/x", "http://c"}, Username: "a:b"}, Registry: {}}
		}), []string{`registries["b.lan"].mirrors[1]`, `registries["b.lan"].username`, `registries["https://a"]`, `registries["registry.skerry.internal"]`}},
		"secret":           {(&Secret{Name: "A", Value: strings.Repeat("x", int(MaxContent)+1), Version: -1}).Validate(), []string{"name", "value", "version"}},
		"relative mount":   {service(func(s *Service) { s.HostMounts = []HostMount{{Source: "a", Target: "/"}} }), []string{"host_mounts[0].source", "host_mounts[0].target"}},
		"ulimit":           {service(func(s *Service) { s.Ulimits = map[string]Ulimit{"nofile": {Soft: 2, Hard: 1}} }), []string{`ulimits["nofile"]`}},
		"env, cap, signal": {service(func(s *Service) { s.Env, s.CapAdd, s.StopSignal = map[string]string{"1=": ""}, []string{"net"}, "term" }), []string{"env", "cap_add[0]", "stop_signal"}},
	} {
		t.Run(name, func(t *testing.T) {
			var paths []string
			for _, problem := range c.got {
				paths = append(paths, problem.Path)
			}
			if diff := cmp.Diff(c.want, paths); diff != "" {
				t.Error(diff, c.got)
			}
		})
	}
}
