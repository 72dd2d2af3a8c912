package resources

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Secret is a value that only the replicas get which need it.
type Secret struct {
	// Name of the secret, by which services take it.
	Name string `json:"name" iac:"replace"`
	// The value. No state, plan or log has it; the control plane keeps it sealed.
	Value string `json:"value,omitempty" iac:"writeonly,version=version"`
	// Number of the value: another one sends the value again, and rolls the services that use it.
	Version int `json:"version,omitempty" iac:"default=1"`
	// Labels of the secret, for people.
	Labels map[string]string `json:"labels,omitempty" iac:"optional"`
}

// SecretMount is a secret in the containers of a service: a file, or a variable of
// their environment.
type SecretMount struct {
	// Name of the secret.
	Secret string `json:"secret"`
	// Variable of the environment that has the value, in place of a file. Whoever is root on the node can read it there, and programs often pass their environment on; take a file where you can.
	Env string `json:"env,omitempty" iac:"optional"`
	FileMount
}

// FileMount is where a file is in the containers of a service, and who reads it.
type FileMount struct {
	// Path of the file in the container. `/run/secrets/NAME` of a secret and `/run/configs/NAME` of a config unless given.
	Path string `json:"path,omitempty" iac:"optional"`
	// Mode of the file, octal. `0400` of a secret and `0444` of a config unless given.
	Mode string `json:"mode,omitempty" iac:"optional"`
	// Number of the user that owns the file. That of the service's `user`, where it is a number, unless given; else 0.
	UID *int `json:"uid,omitempty" iac:"optional"`
	// Number of the group that owns the file, as `uid`.
	GID *int `json:"gid,omitempty" iac:"optional"`
}

// MaxContent is the largest secret or config: with the store's own form around it,
// it fits into one of its writes (etcd: 1.5 MiB).
const MaxContent = 512 * KiB

// Where files are in a container unless the user says otherwise.
const (
	secretsDirectory = "/run/secrets"
	configsDirectory = "/run/configs"
)

var modePattern = regexp.MustCompile(`^0?[0-7]{3}$`)

// SetDefaults fills what was left out.
func (s *Secret) SetDefaults() { setDefault(&s.Version, 1) }

// Validate returns every problem with what the user wrote.
func (s *Secret) Validate() Problems {
	var p Problems
	checkName(&p, "name", s.Name)
	checkSize(&p, "value", len(s.Value))
	if s.Version < 0 {
		p.Addf("version", "is %d; count up from 1", s.Version)
	}
	return p
}

func checkSize(p *Problems, at string, size int) {
	if Bytes(size) > MaxContent {
		p.Addf(at, "has %d bytes; %s is the most", size, MaxContent)
	}
}

// File is what a container has of a secret or a config.
type File struct {
	// Content is what is in it; see SecretContent.
	Content  string
	Path     string
	Mode     uint32
	UID, GID int
}

// Files are those that a container of the template has of its secrets and configs,
// without versions.
func (t *Template) Files() []File {
	var all []File
	for _, m := range t.Secrets {
		if m.Env == "" {
			all = append(all, t.file(m.FileMount, SecretContent(m.Secret), path.Join(secretsDirectory, m.Secret), 0o400))
		}
	}
	for _, m := range t.Configs {
		all = append(all, t.file(m.FileMount, ConfigContent(m.Config), path.Join(configsDirectory, m.Config), 0o444))
	}
	return all
}

func (t *Template) file(m FileMount, content, place string, mode uint32) File {
	f := File{Content: content, Path: cmp.Or(m.Path, place), Mode: mode}
	if given, err := strconv.ParseUint(m.Mode, 8, 32); err == nil {
		f.Mode = uint32(given)
	}
	user, group, _ := strings.Cut(t.User, ":")
	f.UID, f.GID = owner(m.UID, user), owner(m.GID, group)
	return f
}

// owner is the number that is given, or that of the service's user, or else 0.
func owner(given *int, user string) int {
	if given != nil {
		return *given
	}
	number, err := strconv.Atoi(user)
	if err != nil {
		return 0
	}
	return number
}

// validateContents finds what is wrong with the secrets and configs. Which there
// are, the control plane knows.
func (t *Template) validateContents(p *Problems) {
	taken := map[string]string{}
	for i, m := range t.Mounts {
		taken[path.Clean(m.Path)] = fmt.Sprintf("mounts[%d]", i)
	}
	variables := map[string]string{}
	for key := range t.Env {
		variables[key] = "env"
	}
	for i, m := range t.Secrets {
		at := fmt.Sprintf("secrets[%d]", i)
		checkName(p, at+".secret", m.Secret)
		if m.Env == "" {
			m.validate(p, at, cmp.Or(m.Path, path.Join(secretsDirectory, m.Secret)), taken)
			continue
		}
		if !envPattern.MatchString(m.Env) {
			p.Addf(at+".env", "%q is not a variable's name; use letters, digits and underscores", m.Env)
		}
		if m.FileMount != (FileMount{}) {
			p.Addf(at+".env", "is a variable, which has no path, mode, uid or gid; leave them out, or env")
		}
		if other, found := variables[m.Env]; found {
			p.Addf(at+".env", "is %s, which %s sets already", m.Env, other)
		}
		variables[m.Env] = at
	}
	for i, m := range t.Configs {
		at := fmt.Sprintf("configs[%d]", i)
		checkName(p, at+".config", m.Config)
		m.validate(p, at, cmp.Or(m.Path, path.Join(configsDirectory, m.Config)), taken)
	}
}

func (m FileMount) validate(p *Problems, at, place string, taken map[string]string) {
	if !path.IsAbs(place) || path.Clean(place) == "/" {
		p.Addf(at+".path", "%q is not an absolute path below /", place)
	}
	if first, found := taken[path.Clean(place)]; found {
		p.Addf(at+".path", "is %s, which %s is already; give each a path of its own", place, first)
	}
	taken[path.Clean(place)] = at
	if m.Mode != "" {
		checkPattern(p, at+".mode", m.Mode, modePattern, "an octal mode, like 0400")
	}
	for name, id := range map[string]*int{".uid": m.UID, ".gid": m.GID} {
		if id != nil && *id < 0 {
			p.Addf(at+name, "is %d; give 0 or more", *id)
		}
	}
}

// SecretRecord is a secret as the control plane stores it.
type SecretRecord struct {
	// Secret has no value: that is in a ContentRecord.
	Secret Secret `json:"secret"`
	// Number of its present value, by which its content is found. It grows with each
	// value that differs from the one before.
	Number int `json:"number"`
}

// SecretStatus is a secret for people and plugins. Nobody is told the value.
type SecretStatus struct {
	Secret Secret `json:"secret"`
	// Services that use it, sorted, with the revisions that have its present value.
	Services []ServiceRevision `json:"services,omitempty"`
}

// ServiceRevision is a revision of a service.
type ServiceRevision struct {
	Service  string `json:"service"`
	Revision int    `json:"revision"`
}
