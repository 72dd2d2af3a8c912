package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/atomicfile"
	"github.com/skerry-io/skerry/controlplane/seal"
	"github.com/skerry-io/skerry/resources"
)

// contents gives replicas their secrets and configs: files in a directory that is
// in memory only, which their containers mount, and variables.
type contents struct {
	dir      string
	log      *slog.Logger
	mounting sync.Mutex // held while dir is looked at and mounted

	mu    sync.Mutex // guards all below
	known map[string]resources.Sensitive
	// registries and users are who pulls images.
	registries []resources.AssignedRegistry
	users      []resources.AssignedLogin
	// there are the replicas that have a directory; nil before the first look.
	there map[resources.ReplicaID]bool
}

func newContents(dir string, log *slog.Logger) *contents {
	return &contents{dir: dir, log: log, known: map[string]resources.Sensitive{}}
}

// follow takes what the node's replicas need.
func (c *contents) follow(said resources.Assignment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
	for _, content := range said.Contents {
		c.known[content.Version] = content.Value
	}
	c.registries, c.users = said.Registries, said.Logins
}

// complete adds what the node has of contents that its replicas need, and that the
// control plane can't tell at present.
func (c *contents) complete(said resources.Assignment) resources.Assignment {
	told := map[string]bool{}
	for _, content := range said.Contents {
		told[content.Version] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range said.Replicas {
		for _, version := range r.Contents.Versions() {
			if value, found := c.known[version]; found && !told[version] {
				told[version] = true
				said.Contents = append(slices.Clone(said.Contents), resources.Content{Version: version, Value: value})
			}
		}
	}
	return said
}

// logins are those that the image of a replica is pulled with: the service's own at
// the image's registry, and else those of the cluster.
func (c *contents) logins(r resources.Replica) ([]resources.Login, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []resources.Login
	own := ""
	for _, u := range c.users {
		if value, found := c.known[u.Password]; found && u.Service == r.Service {
			own = resources.ImageHost(r.Template.Image)
			all = append(all, resources.Login{Host: own, Username: u.Username, Password: value})
		}
	}
	for _, registry := range c.registries {
		if value, found := c.known[registry.Password]; found && registry.Host != own {
			all = append(all, resources.Login{Host: registry.Host, Username: registry.Username, Password: value})
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, c.inMemory() // the runtime's bindings read them from a file there
}

// value is what the replica's version of a content holds.
func (c *contents) value(r resources.Replica, content string) (resources.Sensitive, error) {
	version := resources.ContentVersion(content, r.Contents[content])
	c.mu.Lock()
	defer c.mu.Unlock()
	value, found := c.known[version]
	if !found {
		return nil, fmt.Errorf("give the replica %s: the control plane has not said what is in it", version)
	}
	return value, nil
}

// prepare writes the files of the replica, unless they are there.
func (c *contents) prepare(r resources.Replica) error {
	files := r.Template.Files()
	if len(files) == 0 {
		return nil
	}
	if c.dir == "" {
		return errors.New("give the replica its secrets: this node has no place for them")
	}
	if err := c.inMemory(); err != nil {
		return err
	}
	dir := c.of(r.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("give the replica its secrets: %w", err)
	}
	c.mu.Lock()
	if c.there != nil {
		c.there[r.ID] = true
	}
	c.mu.Unlock()
	for i, f := range files {
		value, err := c.value(r, f.Content)
		if err != nil {
			return err
		}
		if err := writeContent(filepath.Join(dir, fileName(i, f)), f, value); err != nil {
			return fmt.Errorf("give the replica %s: %w", f.Content, err)
		}
	}
	return nil
}

func (c *contents) of(id resources.ReplicaID) string { return filepath.Join(c.dir, string(id)) }

// fileName is that of a replica's file. One secret may be in several places.
func fileName(i int, f resources.File) string {
	return fmt.Sprintf("%d-%s", i, strings.ReplaceAll(f.Content, "/", "-"))
}

// writeContent writes a file that has its owner and mode once it has its name. One
// that is there already stays: a container may have it.
func writeContent(path string, f resources.File, value []byte) error {
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, value) {
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it has its name by now
	_, err = file.Write(value)
	if err == nil {
		err = file.Chmod(fs.FileMode(f.Mode))
	}
	if err == nil && (f.UID != os.Geteuid() || f.GID != os.Getegid()) {
		err = file.Chown(f.UID, f.GID)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// given is the replica as the runtime makes it: its files are mounted read-only
// from where prepare writes them, and its variables are in the environment.
func (c *contents) given(r resources.Replica) (resources.Replica, error) {
	if len(r.Contents) == 0 {
		return r, nil
	}
	t := r.Template
	t.HostMounts, t.Env = slices.Clone(t.HostMounts), maps.Clone(t.Env)
	for i, f := range t.Files() {
		t.HostMounts = append(t.HostMounts, resources.HostMount{Source: filepath.Join(c.of(r.ID), fileName(i, f)), Target: f.Path, ReadOnly: true})
	}
	for _, m := range t.Secrets {
		if m.Env == "" {
			continue
		}
		value, err := c.value(r, resources.SecretContent(m.Secret))
		if err != nil {
			return r, err
		}
		if t.Env == nil {
			t.Env = map[string]string{}
		}
		t.Env[m.Env] = string(value)
	}
	r.Template = t
	return r, nil
}

// use removes the files of replicas that are not on the node any more.
func (c *contents) use(units map[resources.ReplicaID]*unit) {
	if c.dir == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.there == nil {
		c.there = map[resources.ReplicaID]bool{}
		entries, err := os.ReadDir(c.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("secrets of replicas that are gone may be left", "err", err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				continue // see logins
			}
			c.there[resources.ReplicaID(e.Name())] = true
		}
	}
	for id := range c.there {
		if units[id] != nil {
			continue
		}
		if err := os.RemoveAll(c.of(id)); err != nil {
			c.log.Warn("the secrets of a replica that is gone are not removed yet", "replica", id, "err", err)
			continue
		}
		delete(c.there, id)
	}
}

// leave removes all that is there.
func (c *contents) leave() error {
	c.follow(resources.Assignment{})
	if c.dir == "" {
		return nil
	}
	c.use(nil)
	unix.Unmount(c.dir, unix.MNT_DETACH) //nolint:errcheck // where it was in memory before, it is no mount
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove the secrets of replicas: %w", err)
	}
	return nil
}

// inMemory makes the directory one that is in memory only, once: replicas start at
// the same time, and a second mount would hide what is in the first one.
func (c *contents) inMemory() error {
	c.mounting.Lock()
	defer c.mounting.Unlock()
	dir := c.dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep secrets in memory: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("keep secrets in memory: look at %s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	// Linux before 6.3 does not know how to keep it from swap.
	err := unix.Mount("skerry", dir, "tmpfs", flags, "mode=0700,noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("skerry", dir, "tmpfs", flags, "mode=0700")
	}
	if err != nil {
		return fmt.Errorf("keep secrets in memory: mount a tmpfs on %s: %w; run as root, or let the directory be on one", dir, err)
	}
	return nil
}

// cacheKeyFile has the key of what the node keeps of its secrets for a start without a
// server.
const cacheKeyFile = "agent/cache.key"

func (a *Agent) cacheKey() ([]byte, error) {
	path := a.path(cacheKeyFile)
	key, err := os.ReadFile(path)
	if err == nil && len(key) == seal.KeySize {
		return key, nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) { // one of another size is of no use to anybody
		key = seal.NewKey()
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = atomicfile.Write(path, key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the node's cache: %w", err)
	}
	return key, nil
}

// cached is the assignment as the node keeps it: with its contents sealed.
func (a *Agent) cached(said resources.Assignment) (resources.Assignment, error) {
	if len(said.Contents) == 0 {
		return said, nil
	}
	key, err := a.cacheKey()
	if err != nil {
		return said, err
	}
	said.Contents = slices.Clone(said.Contents)
	for i, c := range said.Contents {
		sealed, err := seal.Seal(key, c.Version, c.Value)
		if err != nil {
			return said, err
		}
		said.Contents[i] = resources.Content{Version: c.Version, Sealed: sealed}
	}
	return said, nil
}

// recalled opens what cached has sealed. What does not open, the control plane has
// to say again.
func (a *Agent) recalled(known resources.Assignment) resources.Assignment {
	if len(known.Contents) == 0 {
		return known
	}
	var all []resources.Content
	key, err := a.cacheKey()
	for _, c := range known.Contents {
		var value []byte
		if err == nil {
			value, err = seal.Open(key, c.Version, c.Sealed)
		}
		if err != nil {
			a.Log.Warn("replicas that need a secret wait for a server, since what was kept of it can't be read", "err", err)
			break
		}
		all = append(all, resources.Content{Version: c.Version, Value: value})
	}
	known.Contents = all
	return known
}
