package seal

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/atomicfile"
	"github.com/skerry-io/skerry/resources"
)

// Ring is the sealing keys that a server has. What is added to it is on the disk
// before anybody can seal with it.
type Ring struct {
	path string // empty for one in memory

	mu   sync.Mutex // guards keys
	keys map[string]resources.SealingKey
}

// NewRing is a ring in memory, for tests.
func NewRing() *Ring { return &Ring{keys: map[string]resources.SealingKey{}} }

// OpenRing reads a ring from its file. Where there is none it is empty.
func OpenRing(path string) (*Ring, error) {
	r := NewRing()
	r.path = path
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	var there resources.Keyring
	if err == nil {
		err = json.Unmarshal(text, &there)
	}
	if err != nil {
		return nil, fmt.Errorf("read the sealing keys: %w", err)
	}
	for _, k := range there.Keys {
		if len(k.Secret) != KeySize {
			return nil, fmt.Errorf("read the sealing keys: %s is damaged: key %q has not %d bytes", path, k.ID, KeySize)
		}
		r.keys[k.ID] = k
	}
	return r, nil
}

// Make makes a key, and gives its ID.
func (r *Ring) Make(now time.Time) (string, error) {
	var id [8]byte
	rand.Read(id[:])
	k := resources.SealingKey{ID: hex.EncodeToString(id[:]), Secret: NewKey(), Made: now.UTC()}
	return k.ID, r.Change(resources.Keyring{Keys: []resources.SealingKey{k}})
}

// Keys are all keys, sorted by ID.
func (r *Ring) Keys() []resources.SealingKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sorted(r.keys)
}

func sorted(keys map[string]resources.SealingKey) []resources.SealingKey {
	return slices.SortedFunc(maps.Values(keys), func(a, b resources.SealingKey) int { return strings.Compare(a.ID, b.ID) })
}

// Has tells whether the key is there.
func (r *Ring) Has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := r.keys[id]
	return found
}

// Change adds keys and drops others, all or nothing.
func (r *Ring) Change(c resources.Keyring) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := maps.Clone(r.keys)
	for _, k := range c.Keys {
		if len(k.Secret) != KeySize || k.ID == "" {
			return fmt.Errorf("keep the sealing keys: key %q has not %d bytes", k.ID, KeySize)
		}
		next[k.ID] = k
	}
	for _, id := range c.Drop {
		delete(next, id)
	}
	if r.path != "" {
		text, err := json.Marshal(resources.Keyring{Keys: sorted(next)})
		if err == nil {
			err = os.MkdirAll(filepath.Dir(r.path), 0o700)
		}
		if err == nil {
			err = atomicfile.Write(r.path, text)
		}
		if err != nil {
			return fmt.Errorf("keep the sealing keys: %w", err)
		}
	}
	r.keys = next
	return nil
}

// Seal seals a version of a content with the key.
func (r *Ring) Seal(id, version string, value []byte) (resources.ContentRecord, error) {
	key, err := r.key(id, version)
	if err != nil {
		return resources.ContentRecord{}, err
	}
	sealed, err := Seal(key, version, value)
	return resources.ContentRecord{Version: version, Key: id, Sealed: sealed}, err
}

// Open gives what is in a version of a content.
func (r *Ring) Open(c resources.ContentRecord) ([]byte, error) {
	key, err := r.key(c.Key, c.Version)
	if err != nil {
		return nil, err
	}
	return Open(key, c.Version, c.Sealed)
}

func (r *Ring) key(id, version string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, found := r.keys[id]
	if !found {
		return nil, fmt.Errorf("%s is sealed with key %q, which this server does not have", version, id)
	}
	return k.Secret, nil
}
