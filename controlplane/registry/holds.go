package registry

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// grace is how long a client that is heard of no more keeps its holds.
const grace = time.Hour

// held names a blob or manifest in a repository.
type held struct {
	name   string
	digest digest.Digest
}

// holds are what pushes under way rely on. Its mutex is also the collection's:
// what is not held when a collection starts is asked for only after it ended.
type holds struct {
	sync.Mutex
	// since is guarded by the mutex.
	since map[held]time.Time
	now   func() time.Time
}

// hold keeps the digests in the repository from collection.
func (h *holds) hold(name string, digests ...digest.Digest) {
	h.Lock()
	defer h.Unlock()
	for _, d := range digests {
		h.since[held{name, d}] = h.now()
	}
}

// release ends the hold on the digests.
func (h *holds) release(name string, digests ...digest.Digest) {
	h.Lock()
	defer h.Unlock()
	for _, d := range digests {
		delete(h.since, held{name, d})
	}
}

// expire forgets the holds whose grace is over. The caller has the mutex.
func (h *holds) expire() {
	end := h.now().Add(-grace)
	for k, since := range h.since {
		if since.Before(end) {
			delete(h.since, k)
		}
	}
}

// has tells whether the digest is held in that repository. The caller has the mutex.
func (h *holds) has(name string, d digest.Digest) bool {
	_, ok := h.since[held{name, d}]
	return ok
}

// blobs are the digests held in any repository. The caller has the mutex.
func (h *holds) blobs() map[digest.Digest]bool {
	found := make(map[digest.Digest]bool, len(h.since))
	for k := range h.since {
		found[k.digest] = true
	}
	return found
}
