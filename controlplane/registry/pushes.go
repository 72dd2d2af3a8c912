package registry

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// pushTimeout is how long after its last request a push counts as given up.
const pushTimeout = 10 * time.Minute

// pushes knows which repositories have got blobs and no manifest yet.
type pushes struct {
	mu   sync.Mutex // guards last
	last map[string]time.Time
}

func newPushes() pushes { return pushes{last: map[string]time.Time{}} }

// note follows a push: a request for uploads opens it, and its manifest ends it.
func (p *pushes) note(r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	p.mu.Lock()
	defer p.mu.Unlock()
	if name, _, found := strings.Cut(path, "/blobs/"); found && r.Method != http.MethodGet && r.Method != http.MethodHead {
		p.last[name] = time.Now()
	}
	if name, _, found := strings.Cut(path, "/manifests/"); found && r.Method == http.MethodPut {
		// An index follows its images; so the push is open a moment longer.
		p.last[name] = time.Now().Add(-pushTimeout + manifestGrace)
	}
}

// manifestGrace is how long after a manifest another one may follow.
const manifestGrace = 2 * time.Second

func (p *pushes) open() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, last := range p.last {
		if time.Since(last) < pushTimeout {
			return true
		}
		delete(p.last, name)
	}
	return false
}
