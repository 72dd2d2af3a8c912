package resources

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Health says how the agent of a replica's node finds out how the replica is.
// Names, meanings and defaults are those of Kubernetes' probes
// (https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/).
type Health struct {
	// Whether the program has started. Until it has, the other two wait; a replica that does not start is ended, and started again.
	Startup *Probe `json:"startup,omitempty" iac:"optional"`
	// Whether the replica does its work. One that does not is left alone, counts as not ready, and gets no traffic.
	Readiness *Probe `json:"readiness,omitempty" iac:"optional"`
	// Whether the program is still alive. A replica that is not is ended, and started again.
	Liveness *Probe `json:"liveness,omitempty" iac:"optional"`
}

// Probe is one way to ask a replica, again and again. Exactly one of http, tcp
// and exec says what is asked.
type Probe struct {
	// An HTTP request, which has to be answered with a status from 200 to 399.
	HTTP *HTTPProbe `json:"http,omitempty" iac:"optional"`
	// A TCP connection, which has to come about.
	TCP *TCPProbe `json:"tcp,omitempty" iac:"optional"`
	// A command in the container, which has to exit with 0.
	Exec *ExecProbe `json:"exec,omitempty" iac:"optional"`
	// How long after the container's start, or after `startup` has succeeded, the first probe waits.
	InitialDelay Duration `json:"initial_delay,omitempty" iac:"default=0s"`
	// How long after the begin of a probe the next one begins.
	Interval Duration `json:"interval,omitempty" iac:"default=10s"`
	// How long a probe may take until it has failed.
	Timeout Duration `json:"timeout,omitempty" iac:"default=1s"`
	// How many probes in a row have to succeed after a failure. 1 for `startup` and `liveness`.
	SuccessThreshold int `json:"success_threshold,omitempty" iac:"default=1"`
	// How many probes in a row have to fail.
	FailureThreshold int `json:"failure_threshold,omitempty" iac:"default=3"`
}

// HTTPProbe is an HTTP request to the replica. A redirect is an answer, and is
// not followed.
type HTTPProbe struct {
	// Port of the container.
	Port int `json:"port"`
	// Path and query of the request.
	Path string `json:"path,omitempty" iac:"default=/"`
	// `http`, or `https` with whatever certificate.
	Scheme string `json:"scheme,omitempty" iac:"default=http"`
	// Headers of the request; `Host` is its host.
	Headers map[string]string `json:"headers,omitempty" iac:"optional"`
}

// TCPProbe is a connection to the replica.
type TCPProbe struct {
	// Port of the container.
	Port int `json:"port"`
}

// ExecProbe is a command in the replica's container.
type ExecProbe struct {
	// Program and arguments; no shell reads them.
	Command []string `json:"command"`
}

// The defaults of a probe are Kubernetes' own.
const (
	DefaultProbeInterval    = Duration(10 * time.Second)
	DefaultProbeTimeout     = Duration(time.Second)
	DefaultSuccessThreshold = 1
	DefaultFailureThreshold = 3
)

// probes gives the probes there are, by attribute.
func (h *Health) probes() map[string]*Probe {
	all := map[string]*Probe{"startup": h.Startup, "readiness": h.Readiness, "liveness": h.Liveness}
	for name, p := range all {
		if p == nil {
			delete(all, name)
		}
	}
	return all
}

func (h *Health) setDefaults() {
	for _, p := range h.probes() {
		setDefault(&p.Interval, DefaultProbeInterval)
		setDefault(&p.Timeout, DefaultProbeTimeout)
		setDefault(&p.SuccessThreshold, DefaultSuccessThreshold)
		setDefault(&p.FailureThreshold, DefaultFailureThreshold)
		if p.HTTP != nil {
			setDefault(&p.HTTP.Path, "/")
			setDefault(&p.HTTP.Scheme, "http")
		}
	}
}

func (h *Health) validate(p *Problems) {
	probes := h.probes()
	for _, name := range sortedKeys(probes) {
		at := "health." + name
		probes[name].validate(p, at)
		if n := probes[name].SuccessThreshold; name != "readiness" && n != DefaultSuccessThreshold {
			p.Addf(at+".success_threshold", "is %d; of %s it is 1", n, name)
		}
	}
}

// minProbeInterval keeps a node with many replicas from doing nothing but
// asking; it is Kubernetes' own.
const minProbeInterval = Duration(time.Second)

var headerPattern = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (probe *Probe) validate(p *Problems, at string) {
	given := 0
	for _, is := range []bool{probe.HTTP != nil, probe.TCP != nil, probe.Exec != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		p.Addf(at, "has %d of http, tcp and exec; give exactly one", given)
	}
	if probe.HTTP != nil {
		probe.HTTP.validate(p, at+".http")
	}
	if probe.TCP != nil {
		checkPort(p, at+".tcp.port", probe.TCP.Port)
	}
	if probe.Exec != nil && len(probe.Exec.Command) == 0 {
		p.Addf(at+".exec.command", "is empty; give a program and its arguments")
	}
	if probe.Interval < minProbeInterval {
		p.Addf(at+".interval", "is %s; give at least %s", probe.Interval, minProbeInterval)
	}
	if probe.InitialDelay < 0 {
		p.Addf(at+".initial_delay", "is %s; give 0s or more", probe.InitialDelay)
	}
	if probe.Timeout <= 0 {
		p.Addf(at+".timeout", "is %s; give more than 0s", probe.Timeout)
	}
	if probe.FailureThreshold < 1 {
		p.Addf(at+".failure_threshold", "is %d; give at least 1", probe.FailureThreshold)
	}
	if probe.SuccessThreshold < 1 {
		p.Addf(at+".success_threshold", "is %d; give at least 1", probe.SuccessThreshold)
	}
}

func (http *HTTPProbe) validate(p *Problems, at string) {
	checkPort(p, at+".port", http.Port)
	if !strings.HasPrefix(http.Path, "/") || strings.ContainsAny(http.Path, " \t\r\n#") {
		p.Addf(at+".path", "is %q; a path begins with / and has no spaces, like /healthz", http.Path)
	}
	oneOf(p, at+".scheme", http.Scheme, "http", "https")
	for _, name := range sortedKeys(http.Headers) {
		if !headerPattern.MatchString(name) || strings.ContainsAny(http.Headers[name], "\r\n") {
			p.Addf(at+".headers", "%q is not a header that can be sent", name)
		}
	}
}

func checkPort(p *Problems, at string, port int) {
	if port < 1 || port > 65535 {
		p.Addf(at, "is %d; a port is between 1 and 65535", port)
	}
}

// String says what a probe asks, for people.
func (probe *Probe) String() string {
	switch {
	case probe.HTTP != nil:
		return fmt.Sprintf("GET %s on port %d", probe.HTTP.Path, probe.HTTP.Port)
	case probe.TCP != nil:
		return fmt.Sprintf("a connection to port %d", probe.TCP.Port)
	case probe.Exec != nil:
		return strings.Join(probe.Exec.Command, " ")
	}
	return "nothing"
}
