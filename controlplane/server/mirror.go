package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// Every server holds every image of the cluster's registry. The store lists
// them, and each server fetches what it lacks from one that has it; a push has
// succeeded once a majority of the servers hold the image, so that it outlives
// what the store outlives.

const (
	// ownCopy asks a server for what it holds itself, whoever leads.
	ownCopy = "Skerry-Own-Copy"
	// mirrorAgain is how often a server looks for images that it could not fetch.
	mirrorAgain = 10 * time.Second
	// majorityPatience is how long a push waits for the other servers.
	majorityPatience = 2 * time.Minute
	// majorityStep is how often it asks them.
	majorityStep = 100 * time.Millisecond
)

// registryHandler serves /v2/: this server's own copy where that is asked for,
// and else that of the server that leads.
func (s *Server) registryHandler() http.Handler {
	led := s.led(http.HandlerFunc(s.serveRegistry))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(ownCopy) != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			s.Images.ServeHTTP(w, r)
			return
		}
		led.ServeHTTP(w, r)
	})
}

// serveRegistry serves the registry where this server leads. What it pulls it
// has, or fetches first; a manifest, which ends a push, is listed.
func (s *Server) serveRegistry(w http.ResponseWriter, r *http.Request) {
	image, isManifest := manifestOf(r.URL.Path)
	switch {
	case isManifest && r.Method == http.MethodPut:
		s.putManifest(w, r, image)
		return
	case isManifest && strings.Contains(image.Digest, ":"):
		if err := s.fetch(r.Context(), image); err != nil {
			s.Log.Info("an image is not here, and not fetched either", "image", image.Key(), "err", err)
		}
	}
	s.Images.ServeHTTP(w, r)
}

// manifestOf reads /v2/NAME/manifests/REFERENCE.
func manifestOf(path string) (resources.ImageRecord, bool) {
	rest, found := strings.CutPrefix(path, "/v2/")
	i := strings.LastIndex(rest, "/manifests/")
	if !found || i < 0 {
		return resources.ImageRecord{}, false
	}
	return resources.ImageRecord{Name: rest[:i], Digest: rest[i+len("/manifests/"):]}, true
}

// putManifest takes a manifest, lists it, and answers once a majority of the
// servers hold the image.
func (s *Server) putManifest(w http.ResponseWriter, r *http.Request, image resources.ImageRecord) {
	held := &heldAnswer{header: http.Header{}, status: http.StatusOK}
	s.Images.ServeHTTP(held, r)
	if held.status < http.StatusBadRequest {
		image.Digest = held.header.Get("Docker-Content-Digest")
		if err := s.spread(r.Context(), image); err != nil {
			api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
			return
		}
	}
	maps.Copy(w.Header(), held.header)
	w.WriteHeader(held.status)
	w.Write(held.body.Bytes()) //nolint:errcheck // the caller has gone
}

// heldAnswer keeps an answer until it may be given.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header            { return h.header }
func (h *heldAnswer) WriteHeader(status int)         { h.status = status }
func (h *heldAnswer) Write(text []byte) (int, error) { return h.body.Write(text) }

// spread lists the image, and returns once a majority of the servers hold it.
func (s *Server) spread(ctx context.Context, image resources.ImageRecord) error {
	err := s.update(ctx, func(state *store.State) ([]store.Change, error) {
		if _, found := state.Images[image.Key()]; found {
			return nil, nil
		}
		return []store.Change{store.PutImage(image)}, nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, majorityPatience)
	defer cancel()
	for {
		state, err := s.Store.Load(ctx)
		if err != nil {
			return err
		}
		holders := 1
		for id, server := range state.Servers {
			if id != s.Self.Node && s.holds(ctx, server, image) {
				holders++
			}
		}
		if 2*holders > len(state.Servers) {
			return nil
		}
		select {
		case <-ctx.Done():
			return api.Errorf(http.StatusServiceUnavailable, "%d of %d servers hold image %s, which is no majority yet: it is tried again when it is pushed again",
				holders, len(state.Servers), image.Key())
		case <-time.After(majorityStep):
		}
	}
}

// holds asks another server whether it has the image.
func (s *Server) holds(ctx context.Context, server resources.ServerAddress, image resources.ImageRecord) bool {
	ctx, cancel := context.WithTimeout(ctx, retryWait)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+path.Join(resources.Registry, "v2", image.Name, "manifests", image.Digest), nil)
	if err != nil {
		return false
	}
	// The types of manifests that an archive can become; a registry answers with
	// one that is accepted.
	for _, accepted := range manifestTypes {
		r.Header.Add("Accept", accepted)
	}
	answer, err := s.copies(server).RoundTrip(r)
	if err != nil {
		return false
	}
	defer answer.Body.Close() //nolint:errcheck // it has none
	return answer.StatusCode == http.StatusOK
}

var manifestTypes = []string{
	"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
}

// copies leads to another server's own copies.
func (s *Server) copies(server resources.ServerAddress) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Scheme = "http"
		r.Header.Set(ownCopy, "1")
		return s.transport(server).RoundTrip(r)
	})
}

// local leads to this server's own registry.
func (s *Server) local() http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		answer := &heldAnswer{header: http.Header{}, status: http.StatusOK}
		// As a server gets it.
		served := r.Clone(r.Context())
		served.RequestURI, served.RemoteAddr = r.URL.RequestURI(), "local"
		if served.Body == nil {
			served.Body = http.NoBody
		}
		s.Images.ServeHTTP(answer, served)
		return &http.Response{
			StatusCode: answer.status, Status: http.StatusText(answer.status), Header: answer.header, Request: r,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: readCloser{&answer.body}, ContentLength: int64(answer.body.Len()),
		}, nil
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

// fetch brings an image that this server lacks from one that has it.
func (s *Server) fetch(ctx context.Context, image resources.ImageRecord) error {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	has, err := s.Images.Has(ctx, image.Name, image.Digest)
	if err != nil || has {
		return err
	}
	state, err := s.Store.Load(ctx)
	if err != nil {
		return err
	}
	if _, listed := state.Images[image.Key()]; !listed {
		return nil
	}
	failures := []error{fmt.Errorf("no other server has it")}
	for id, server := range state.Servers {
		if id == s.Self.Node || !s.holds(ctx, server, image) {
			continue
		}
		err := s.fetchFrom(ctx, server, image)
		if err == nil {
			s.Log.Info("an image was fetched", "image", image.Key(), "from", id)
			return nil
		}
		failures = append(failures, err)
	}
	return fmt.Errorf("fetch image %s: %w", image.Key(), errors.Join(failures...))
}

func (s *Server) fetchFrom(ctx context.Context, server resources.ServerAddress, image resources.ImageRecord) error {
	ref, err := name.NewDigest(resources.Registry+"/"+image.Name+"@"+image.Digest, name.Insecure)
	if err != nil {
		return err
	}
	from := []remote.Option{remote.WithContext(ctx), remote.WithTransport(s.copies(server))}
	to := []remote.Option{remote.WithContext(ctx), remote.WithTransport(s.local())}
	described, err := remote.Get(ref, from...)
	if err != nil {
		return err
	}
	if described.MediaType.IsIndex() {
		index, err := described.ImageIndex()
		if err != nil {
			return err
		}
		return remote.WriteIndex(ref, index, to...)
	}
	content, err := described.Image()
	if err != nil {
		return err
	}
	return remote.Write(ref, content, to...)
}

// mirror keeps a copy of every image that the store lists, until ctx ends. What
// is listed no more is removed.
func (s *Server) mirror(ctx context.Context) {
	changed := s.Store.Watch(ctx)
	known := map[string]resources.ImageRecord{}
	for {
		again := s.mirrorAll(ctx, known)
		var timer <-chan time.Time
		if again {
			timer = time.After(mirrorAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer:
		}
	}
}

// mirrorAll fetches what is new among the images, and removes what is gone.
func (s *Server) mirrorAll(ctx context.Context, known map[string]resources.ImageRecord) (again bool) {
	state, err := s.Store.Load(ctx)
	if err != nil {
		return true
	}
	for key, image := range state.Images {
		if _, found := known[key]; found {
			continue
		}
		if err := s.fetch(ctx, image); err != nil {
			s.Log.Warn("an image is not fetched yet", "err", err)
			again = true
			continue
		}
		known[key] = image
	}
	for key, image := range known {
		if _, found := state.Images[key]; found {
			continue
		}
		if err := s.Images.Delete(ctx, image.Name, image.Digest); err != nil {
			s.Log.Warn("an image is not removed yet", "image", key, "err", err)
			again = true
			continue
		}
		delete(known, key)
	}
	return again
}
