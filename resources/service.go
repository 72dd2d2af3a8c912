package resources

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Service is N identical replicas of one container, kept running.
type Service struct {
	// Name of the service.
	Name string `json:"name" iac:"replace"`
	// How many replicas run. Zero is valid: the service is kept and nothing runs. With `autoscale`, how many a new service begins with.
	Replicas int `json:"replicas" iac:"default=1"`
	// Lets the number of replicas follow the demand. A change of it makes no new revision.
	Autoscale *Autoscale `json:"autoscale,omitempty" iac:"optional"`
	// How the replicas change from one revision to the next.
	Update Update `json:"update,omitzero" iac:"optional,computed"`
	// `replicated` runs the given number of replicas; `global` runs one on every node that fits, and `replicas` means nothing.
	Mode string `json:"mode,omitempty" iac:"default=replicated"`
	// Which nodes run the replicas. A change replaces only the replicas whose node no longer fits.
	Placement *Placement `json:"placement,omitempty" iac:"optional"`
	// Which replica a client's connections go to: `none` takes any that is ready, `client-ip` the same one for the same client address.
	SessionAffinity string `json:"session_affinity,omitempty" iac:"default=none"`
	// Who pulls the image, where its registry asks that and `registries` of the cluster does not say it.
	RegistryAuth *RegistryAuth `json:"registry_auth,omitempty" iac:"optional"`
	Template
}

// Template is what every replica of a service runs. A change of any of it is a
// new revision, and replaces the replicas.
type Template struct {
	// Image reference, such as `docker.io/library/nginx:1.27`. A tag is resolved to a digest once for each revision.
	Image string `json:"image"`
	// When to pull the image: `missing` pulls what the node lacks, `always` asks the registry at each start, `never` uses what the node has.
	PullPolicy string `json:"pull_policy,omitempty" iac:"default=missing"`
	// Replaces the image's entrypoint.
	Entrypoint []string `json:"entrypoint,omitempty" iac:"optional"`
	// Replaces the image's command.
	Command []string `json:"command,omitempty" iac:"optional"`
	// Arguments that are added to the command.
	Args []string `json:"args,omitempty" iac:"optional"`
	// Environment variables.
	Env map[string]string `json:"env,omitempty" iac:"optional"`
	// Directory that the container starts in. The image's unless given.
	WorkingDir string `json:"working_dir,omitempty" iac:"optional"`
	// User that the container runs as: `name`, `uid` or `uid:gid`. The image's unless given.
	User string `json:"user,omitempty" iac:"optional"`
	// Host name inside the container. The replica's name unless given.
	Hostname string `json:"hostname,omitempty" iac:"optional"`
	// Processor time and memory that each replica is promised.
	Resources Reservation `json:"resources" iac:"optional,computed"`
	// Networks that the replicas join, of the cluster's `skerry_network`s. The first one carries what comes in by published ports. `default` unless given.
	Networks []string `json:"networks,omitempty" iac:"optional"`
	// Ports of the container that nodes publish.
	Ports []Port `json:"ports,omitempty" iac:"optional"`
	// How to find out whether a replica has started, does its work, and is still alive. Without it, one that has run for 3s does.
	Health *Health `json:"health,omitempty" iac:"optional"`
	// What happens when the container exits: `always`, `on-failure` or `never` start it again.
	Restart string `json:"restart,omitempty" iac:"default=always"`
	// Capabilities to add to Podman's default ones, such as `NET_ADMIN`.
	CapAdd []string `json:"cap_add,omitempty" iac:"optional"`
	// Capabilities to drop; `ALL` drops every one.
	CapDrop []string `json:"cap_drop,omitempty" iac:"optional"`
	// Run with all capabilities and devices of the node.
	Privileged bool `json:"privileged,omitempty" iac:"default=false"`
	// Devices of the node to hand in: `/dev/fuse`, or `/dev/sda:/dev/xvda:r`.
	Devices []string `json:"devices,omitempty" iac:"optional"`
	// Mount the container's root file system read-only.
	ReadOnly bool `json:"read_only,omitempty" iac:"default=false"`
	// Volumes to mount, of the cluster's `skerry_volume`s.
	Mounts []Mount `json:"mounts,omitempty" iac:"optional"`
	// Secrets that the containers get, of the cluster's `skerry_secret`s.
	Secrets []SecretMount `json:"secrets,omitempty" iac:"optional"`
	// Files that the containers get, of the cluster's `skerry_config`s.
	Configs []ConfigMount `json:"configs,omitempty" iac:"optional"`
	// Directories in memory.
	Tmpfs []Tmpfs `json:"tmpfs,omitempty" iac:"optional"`
	// Directories and files of the node to mount.
	HostMounts []HostMount `json:"host_mounts,omitempty" iac:"optional"`
	// Limits of the process, by name (`nofile`, `nproc`, ...).
	Ulimits map[string]Ulimit `json:"ulimits,omitempty" iac:"optional"`
	// Kernel settings of the container's own namespaces, such as `net.core.somaxconn`.
	Sysctls map[string]string `json:"sysctls,omitempty" iac:"optional"`
	// Labels of the container.
	Labels map[string]string `json:"labels,omitempty" iac:"optional"`
	// How much of the container's output its node keeps. 3 times 10MiB unless given.
	Logs *Logs `json:"logs,omitempty" iac:"optional"`
	// Signal that asks the container to stop.
	StopSignal string `json:"stop_signal,omitempty" iac:"default=SIGTERM"`
	// How long a container may take to stop before it is killed.
	StopGrace Duration `json:"stop_grace,omitempty" iac:"default=10s"`
}

// Reservation is what a replica is promised of a node, and its limit.
type Reservation struct {
	// Processor time that is reserved, and the container's limit.
	CPU MilliCPU `json:"cpu,omitempty" iac:"default=100m"`
	// Memory that is reserved, and the container's limit.
	Memory Bytes `json:"memory,omitempty" iac:"default=128MiB"`
}

// Port is one published port.
type Port struct {
	// Port that the container listens on.
	Target int `json:"target"`
	// Port of the node. The target's number unless given.
	Published int `json:"published,omitempty" iac:"optional"`
	// `tcp` or `udp`.
	Protocol string `json:"protocol,omitempty" iac:"default=tcp"`
	// Who publishes it: `cluster` is every node, and leads to any replica that is ready; `host` is the node of each replica, which then sees its clients' own addresses.
	Mode string `json:"mode,omitempty" iac:"default=cluster"`
}

// The values of Port.Mode. Stored services of versions that knew no mode have
// none, which is PortHost.
const (
	PortCluster = "cluster"
	PortHost    = "host"
)

// The values of SessionAffinity.
const (
	AffinityNone     = "none"
	AffinityClientIP = "client-ip"
)

// Joins are the names of the networks that replicas of the template join.
func (t *Template) Joins() []string {
	if len(t.Networks) == 0 {
		return []string{DefaultNetwork}
	}
	return t.Networks
}

// Node gives the port of the node: Published, or else Target.
func (p Port) Node() int {
	if p.Published == 0 {
		return p.Target
	}
	return p.Published
}

// Tmpfs is a directory in memory.
type Tmpfs struct {
	// Path in the container.
	Path string `json:"path"`
	// Largest size; half of the node's memory unless given.
	Size Bytes `json:"size,omitempty" iac:"optional"`
}

// HostMount is a directory or file of the node, mounted into the container.
type HostMount struct {
	// Path on the node. It must exist.
	Source string `json:"source"`
	// Path in the container.
	Target string `json:"target"`
	// Mount it read-only.
	ReadOnly bool `json:"read_only,omitempty" iac:"default=false"`
}

// Ulimit is a soft and a hard limit; -1 is unlimited.
type Ulimit struct {
	// Limit that is in force.
	Soft int64 `json:"soft"`
	// Limit that the process may raise it to.
	Hard int64 `json:"hard"`
}

// The values of Mode.
const (
	ModeReplicated = "replicated"
	ModeGlobal     = "global"
)

// The values of PullPolicy.
const (
	PullMissing = "missing"
	PullAlways  = "always"
	PullNever   = "never"
)

// The values of Restart.
const (
	RestartAlways    = "always"
	RestartOnFailure = "on-failure"
	RestartNever     = "never"
)

// The defaults of a service, as its tags state them: 100m and 128MiB let a
// small node run a handful of replicas, and 10s is Podman's own stop timeout.
const (
	DefaultCPU       = MilliCPU(100)
	DefaultMemory    = 128 * MiB
	DefaultStopGrace = Duration(10 * time.Second)
)

// SetDefaults fills what was left out.
func (s *Service) SetDefaults() {
	s.Update.SetDefaults()
	setDefault(&s.Mode, ModeReplicated)
	setDefault(&s.SessionAffinity, AffinityNone)
	if s.Placement != nil {
		s.Placement.setDefaults()
	}
	if s.Autoscale != nil {
		s.Autoscale.setDefaults()
	}
	if s.Health != nil {
		s.Health.setDefaults()
	}
	if s.RegistryAuth != nil {
		setDefault(&s.RegistryAuth.PasswordVersion, 1)
	}
	setDefault(&s.PullPolicy, PullMissing)
	setDefault(&s.Restart, RestartAlways)
	setDefault(&s.StopSignal, "SIGTERM")
	setDefault(&s.StopGrace, DefaultStopGrace)
	if s.Logs != nil {
		s.Logs.setDefaults()
	}
	setDefault(&s.Resources.CPU, DefaultCPU)
	setDefault(&s.Resources.Memory, DefaultMemory)
	for i := range s.Ports {
		setDefault(&s.Ports[i].Protocol, "tcp")
		setDefault(&s.Ports[i].Mode, PortCluster)
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var (
	envPattern    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	capPattern    = regexp.MustCompile(`^(CAP_)?[A-Z][A-Z_]+$`)
	signalPattern = regexp.MustCompile(`^(SIG)?[A-Z][A-Z0-9+]*$|^[1-9][0-9]?$`)
)

// MinMemory is the least memory of a container: Podman refuses less.
const MinMemory = 6 * MiB

// Validate returns every problem with what the user wrote.
func (s *Service) Validate() Problems {
	var p Problems
	checkName(&p, "name", s.Name)
	if s.Replicas < 0 {
		p.Addf("replicas", "is %d; give 0 or more", s.Replicas)
	}
	oneOf(&p, "mode", s.Mode, ModeReplicated, ModeGlobal)
	oneOf(&p, "session_affinity", s.SessionAffinity, AffinityNone, AffinityClientIP)
	if s.Autoscale != nil {
		s.validateAutoscale(&p)
	}
	s.validateNetworks(&p)
	if s.Placement != nil {
		s.Placement.validate(&p, s.Name)
	}
	if s.Image == "" || strings.ContainsAny(s.Image, " \t\n") {
		p.Addf("image", "%q is not an image reference, like docker.io/library/nginx:1.27", s.Image)
	}
	oneOf(&p, "pull_policy", s.PullPolicy, PullMissing, PullAlways, PullNever)
	oneOf(&p, "restart", s.Restart, RestartAlways, RestartOnFailure, RestartNever)
	if s.Health != nil {
		s.Health.validate(&p)
	}
	s.Update.validate(&p)
	s.validateLimits(&p)
	s.validatePorts(&p)
	s.validatePaths(&p)
	s.validateMounts(&p)
	s.validateContents(&p)
	if s.RegistryAuth != nil {
		s.RegistryAuth.validate(&p)
	}
	for _, key := range sortedKeys(s.Env) {
		if !envPattern.MatchString(key) {
			p.Addf("env", "%q is not a variable's name; use letters, digits and underscores", key)
		}
	}
	for i, name := range s.CapAdd {
		checkPattern(&p, fmt.Sprintf("cap_add[%d]", i), name, capPattern, "a capability, like NET_ADMIN")
	}
	for i, name := range s.CapDrop {
		checkPattern(&p, fmt.Sprintf("cap_drop[%d]", i), name, capPattern, "a capability, like NET_RAW or ALL")
	}
	if s.StopSignal != "" {
		checkPattern(&p, "stop_signal", s.StopSignal, signalPattern, "a signal, like SIGTERM")
	}
	return p
}

func (s *Service) validateLimits(p *Problems) {
	if s.Resources.CPU <= 0 {
		p.Addf("resources.cpu", "is %s; give at least 1m", s.Resources.CPU)
	}
	atLeast(p, "resources.memory", s.Resources.Memory, MinMemory)
	if s.Logs != nil {
		s.Logs.validate(p)
	}
	for _, name := range sortedKeys(s.Ulimits) {
		limit := s.Ulimits[name]
		if limit.Soft < -1 || limit.Hard < -1 || limit.Hard != -1 && (limit.Soft == -1 || limit.Soft > limit.Hard) {
			p.Addf(fmt.Sprintf("ulimits[%q]", name), "has soft limit %d above hard limit %d; raise hard or lower soft (-1 is unlimited)", limit.Soft, limit.Hard)
		}
	}
}

func (s *Service) validateNetworks(p *Problems) {
	for i, name := range s.Networks {
		at := fmt.Sprintf("networks[%d]", i)
		checkName(p, at, name)
		if first := slices.Index(s.Networks, name); first < i {
			p.Addf(at, "is %s, which networks[%d] is already; name each network once", name, first)
		}
	}
}

func (s *Service) validatePorts(p *Problems) {
	taken := map[string]int{}
	for i, port := range s.Ports {
		at := fmt.Sprintf("ports[%d]", i)
		checkPort(p, at+".target", port.Target)
		if port.Published < 0 || port.Published > 65535 {
			p.Addf(at+".published", "is %d; a port is between 1 and 65535", port.Published)
		}
		oneOf(p, at+".protocol", port.Protocol, "tcp", "udp")
		oneOf(p, at+".mode", port.Mode, PortCluster, PortHost)
		key := fmt.Sprintf("%d/%s", port.Node(), cmp.Or(port.Protocol, "tcp"))
		if first, found := taken[key]; found {
			p.Addf(at+".published", "publishes %s, which ports[%d] does already; give another number", key, first)
		}
		taken[key] = i
		if has, own := nodePorts[key]; own {
			p.Addf(at+".published", "is %s, which is the node's own: %s; give another number", key, has)
		}
	}
}

// nodePorts are those that no service may have: the node could not be reached any
// more where connections to them were led elsewhere.
var nodePorts = map[string]string{
	"22/tcp":                             "SSH, by which plugins and people reach it",
	ServerPort + "/tcp":                  "the API of the control plane",
	PeerPort + "/tcp":                    "the store of the control plane",
	AgentPort + "/tcp":                   "the agent",
	fmt.Sprintf("%d/udp", WireGuardPort): "WireGuard, between nodes",
	fmt.Sprintf("%d/udp", VXLANPort):     "VXLAN, between nodes",
}

func (s *Service) validatePaths(p *Problems) {
	absolute := func(at, value string) {
		if !path.IsAbs(value) || path.Clean(value) == "/" && strings.HasSuffix(at, "target") {
			p.Addf(at, "%q is not an absolute path below /", value)
		}
	}
	if s.WorkingDir != "" {
		absolute("working_dir", s.WorkingDir)
	}
	for i, mount := range s.Tmpfs {
		absolute(fmt.Sprintf("tmpfs[%d].path", i), mount.Path)
	}
	for i, mount := range s.HostMounts {
		absolute(fmt.Sprintf("host_mounts[%d].source", i), mount.Source)
		absolute(fmt.Sprintf("host_mounts[%d].target", i), mount.Target)
	}
	for i, device := range s.Devices {
		absolute(fmt.Sprintf("devices[%d]", i), strings.SplitN(device, ":", 2)[0])
	}
}

func oneOf(p *Problems, at, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a || value == "" {
			return
		}
	}
	p.Addf(at, "is %q; it is one of %s", value, strings.Join(allowed, ", "))
}

func checkPattern(p *Problems, at, value string, pattern *regexp.Regexp, what string) {
	if !pattern.MatchString(value) {
		p.Addf(at, "%q is not %s", value, what)
	}
}
