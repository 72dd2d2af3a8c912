package registry

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// maxManifest is the size up to which the library takes a manifest.
const maxManifest = 4 << 20

// ServeHTTP serves the distribution API under /v2/.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	req = req.WithContext(r.quiet(req.Context()))
	answer := &answer{ResponseWriter: w}
	name, kind, id := route(req.URL.Path)
	switch {
	case kind == "manifests" && req.Method == http.MethodPut:
		r.putManifest(answer, req, name, id)
	default:
		r.holds.hold(name, relied(req, kind, id)...)
		r.app.ServeHTTP(answer, req)
	}
	if answer.status >= http.StatusInternalServerError {
		r.log.Error("registry", "method", req.Method, "path", req.URL.Path, "status", answer.status)
	}
}

// route splits the path /v2/NAME/KIND/ID, whose name may have slashes.
func route(path string) (name, kind, id string) {
	path = strings.TrimPrefix(path, "/v2/")
	last := 0
	for _, k := range []string{"manifests", "blobs"} {
		if i := strings.LastIndex(path, "/"+k+"/"); i > last {
			last, name, kind, id = i, path[:i], k, path[i+len(k)+2:]
		}
	}
	return name, kind, id
}

// relied are the digests that the client will rely on once this is answered: it
// asks whether they are there, mounts them from another repository or finishes
// uploading them.
func relied(req *http.Request, kind, id string) []digest.Digest {
	var ids []string
	switch {
	case req.Method == http.MethodHead && kind != "":
		ids = []string{id}
	case (req.Method == http.MethodPost || req.Method == http.MethodPut) && kind == "blobs":
		q := req.URL.Query()
		ids = []string{q.Get("digest"), q.Get("mount")}
	}
	return digests(ids...)
}

// digests are those of ids that are digests.
func digests(ids ...string) []digest.Digest {
	var found []digest.Digest
	for _, id := range ids {
		if d, err := digest.Parse(id); err == nil {
			found = append(found, d)
		}
	}
	return found
}

// putManifest serves the PUT of a manifest, which once it is there needs no
// holds on what it refers to.
func (r *Registry) putManifest(w *answer, req *http.Request, name, id string) {
	body, err := io.ReadAll(io.LimitReader(req.Body, maxManifest))
	if err != nil {
		http.Error(w, "the manifest breaks off", http.StatusBadRequest)
		return
	}
	req.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), req.Body), req.Body}
	own := append(digests(id), digest.FromBytes(body))
	r.holds.hold(name, own...)
	r.app.ServeHTTP(w, req)
	if w.status != http.StatusCreated {
		return
	}
	r.holds.release(name, references(body)...)
	if len(digests(id)) == 0 { // It has a tag, so it waits for no index.
		r.holds.release(name, own...)
	}
}

// references are the digests that a manifest or index refers to.
func references(manifest []byte) []digest.Digest {
	type descriptor struct {
		Digest string `json:"digest"`
	}
	var m struct {
		Config    descriptor   `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
	}
	if json.Unmarshal(manifest, &m) != nil {
		return nil
	}
	found := digests(m.Config.Digest)
	for _, d := range append(m.Layers, m.Manifests...) {
		found = append(found, digests(d.Digest)...)
	}
	return found
}

// answer remembers the status of an answer.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
