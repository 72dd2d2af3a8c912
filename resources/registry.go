package resources

import (
	"fmt"
	"regexp"
	"strings"
)

// RegistryAccess is how servers and nodes reach a registry.
type RegistryAccess struct {
	// Registries that are asked first, in this order, as `host[:port]` or `host[:port]/path`: what is `docker.io/library/nginx` elsewhere is `HOST/library/nginx` there.
	Mirrors []string `json:"mirrors,omitempty" iac:"optional"`
	// Speak to it without TLS, or with a certificate that nobody has to know.
	Insecure bool `json:"insecure,omitempty" iac:"default=false"`
	// User that images are pulled as, by every service of the cluster.
	Username string `json:"username,omitempty" iac:"optional"`
	// The user's password, or a token. No state, plan or log has it; the control plane keeps it sealed.
	Password string `json:"password,omitempty" iac:"optional,writeonly,version=password_version"`
	// Number of the password: another one sends it again.
	PasswordVersion int `json:"password_version,omitempty" iac:"default=1"`
}

// RegistryAuth is who pulls the image of a service.
type RegistryAuth struct {
	// User of the image's registry.
	Username string `json:"username"`
	// The user's password, or a token. No state, plan or log has it; the control plane keeps it sealed.
	Password string `json:"password,omitempty" iac:"writeonly,version=password_version"`
	// Number of the password: another one sends it again. Replicas that run stay.
	PasswordVersion int `json:"password_version,omitempty" iac:"default=1"`
}

// Login is a user of a registry.
type Login struct {
	Host     string
	Username string
	Password Sensitive
}

var (
	registryPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)
	mirrorPattern   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9._-]+)*$`)
)

// RegistryContent names the password of a registry.
func RegistryContent(host string) string { return "registry/" + host }

// LoginContent names the password of a service's registry_auth.
func LoginContent(service string) string { return "login/" + service }

// ImageHost is the registry of an image, as a reference names it.
func ImageHost(image string) string {
	host, _, found := strings.Cut(image, "/")
	if found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return host
	}
	return "docker.io"
}

// MirrorHost is the host of a mirror.
func MirrorHost(mirror string) string {
	host, _, _ := strings.Cut(mirror, "/")
	return host
}

func validateRegistries(p *Problems, registries map[string]RegistryAccess) {
	for _, host := range sortedKeys(registries) {
		r, at := registries[host], fmt.Sprintf("registries[%q]", host)
		if host == Registry {
			p.Addf(at, "is the cluster's own registry, which needs no settings; leave it out")
		} else {
			checkPattern(p, at, host, registryPattern, "the host of a registry, like docker.io or registry.lan:5000")
		}
		for i, mirror := range r.Mirrors {
			checkPattern(p, fmt.Sprintf("%s.mirrors[%d]", at, i), mirror, mirrorPattern, "a mirror, like mirror.lan:5000 or mirror.lan/docker")
		}
		if strings.Contains(r.Username, ":") {
			p.Addf(at+".username", "has a colon, which no registry takes")
		}
	}
}

func (a *RegistryAuth) validate(p *Problems) {
	if a.Username == "" || strings.Contains(a.Username, ":") {
		p.Addf("registry_auth.username", "is empty or has a colon, which no registry takes")
	}
}

// RegistryRecord is the access to a registry as the control plane stores it.
type RegistryRecord struct {
	Host string `json:"host"`
	// Access has no password.
	Access RegistryAccess `json:"access"`
	// Number of the present password, by which its content is found; zero where there
	// is none.
	Number int `json:"number,omitempty"`
}

// AssignedRegistry is how a node reaches a registry.
type AssignedRegistry struct {
	Host     string   `json:"host"`
	Mirrors  []string `json:"mirrors,omitempty"`
	Insecure bool     `json:"insecure,omitempty"`
	Username string   `json:"username,omitempty"`
	// Password is the version of its content; empty where the node needs none.
	Password string `json:"password,omitempty"`
}

// AssignedLogin is who pulls the image of a service.
type AssignedLogin struct {
	Service  string `json:"service"`
	Username string `json:"username"`
	// Password is the version of its content.
	Password string `json:"password"`
}
