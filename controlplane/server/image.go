package server

import (
	"net/http"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func (s *Server) getImage(r *http.Request) (any, error) {
	name, digest := r.PathValue("name"), r.URL.Query().Get("digest")
	if err := s.fetch(r.Context(), resources.ImageRecord{Name: name, Digest: digest}); err != nil {
		s.Log.Info("an image is not here, and not fetched either", "err", err)
	}
	found, err := s.Images.Has(r.Context(), name, digest)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, api.Errorf(http.StatusNotFound, "the cluster's registry has no %s", resources.ImageReference(name, digest))
	}
	return map[string]string{"name": name, "digest": digest}, nil
}

func (s *Server) deleteImage(r *http.Request) (any, error) {
	image := resources.ImageRecord{Name: r.PathValue("name"), Digest: r.URL.Query().Get("digest")}
	err := s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		if _, found := state.Images[image.Key()]; !found {
			return nil, nil
		}
		return []store.Change{store.DeleteImage(image)}, nil
	})
	if err != nil {
		return nil, err
	}
	return nil, s.Images.Delete(r.Context(), image.Name, image.Digest)
}
