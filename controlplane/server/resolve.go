package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// resolveOnce is resolve for a change that may be planned several times.
func (s *Server) resolveOnce(ctx context.Context, service resources.Service, password string) func(*store.State) (string, error) {
	var once sync.Once
	var digest string
	var err error
	return func(state *store.State) (string, error) {
		once.Do(func() {
			var registries map[string]Access
			if registries, err = s.access(state, service, password); err == nil {
				digest, err = s.resolve(ctx, service.Template, registries)
			}
		})
		return digest, err
	}
}

// resolve gives the digest that a template's image has now, so that all
// replicas of a revision run the same. It is empty where only the nodes can
// know: images of their own, and registries that don't answer here.
func (s *Server) resolve(ctx context.Context, t resources.Template, registries map[string]Access) (string, error) {
	problem := func(format string, args ...any) error {
		var p resources.Problems
		p.Addf("image", format, args...)
		return api.Invalid(p)
	}
	repository, digest, pinned := strings.Cut(t.Image, "@")
	if own, found := strings.CutPrefix(repository, resources.Registry+"/"); found {
		if !pinned {
			return "", problem("%q has no digest; use the reference of a skerry_image", t.Image)
		}
		has, err := s.Images.Has(ctx, own, digest)
		if err == nil && !has {
			err = problem("the cluster's registry has no %s; make it a skerry_image, and use its reference", t.Image)
		}
		return digest, err
	}
	if pinned {
		return digest, nil
	}
	// "docker://" and its like are for Podman to read.
	if t.PullPolicy == resources.PullNever || strings.HasPrefix(t.Image, "localhost/") || strings.Contains(t.Image, ":/") {
		return "", nil
	}
	digest, err := s.Resolve(ctx, t.Image, registries)
	switch refused := new(transport.Error); {
	case err == nil:
		return digest, nil
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		return "", problem("%q is not in its registry; check the name and the tag", t.Image)
	case errors.Is(err, &name.ErrBadName{}):
		return "", problem("%q is not an image reference: %v", t.Image, err)
	default:
		s.Log.Warn("the image's registry does not tell its digest; each node pulls what it finds", "image", t.Image, "err", err)
		s.events.add("image/"+t.Image, "NotResolved", err.Error(), time.Now())
		return "", nil
	}
}

// resolveTimeout bounds a look into a registry, retries included.
const resolveTimeout = 20 * time.Second

// ResolveRemote is the Resolver that asks the mirrors of the reference's registry,
// and then that itself.
func ResolveRemote(ctx context.Context, reference string, registries map[string]Access) (string, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return "", fmt.Errorf("read the reference %q: %w", reference, err)
	}
	var failures []error
	for _, mirror := range registries[resources.ImageHost(reference)].Mirrors {
		digest, err := head(ctx, fmt.Sprintf("%s/%s:%s", mirror, ref.Context().RepositoryStr(), ref.Identifier()), registries[resources.MirrorHost(mirror)])
		if err == nil {
			return digest, nil
		}
		failures = append(failures, err)
	}
	digest, err := head(ctx, reference, registries[resources.ImageHost(reference)])
	if err == nil {
		return digest, nil
	}
	return "", errors.Join(append([]error{err}, failures...)...)
}

// head asks one registry.
func head(ctx context.Context, reference string, access Access) (string, error) {
	var how []name.Option
	options := []remote.Option{}
	if access.Insecure {
		how = append(how, name.Insecure)
		transport, _ := remote.DefaultTransport.(*http.Transport)
		transport = transport.Clone()
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the user says so
		options = append(options, remote.WithTransport(transport))
	}
	if access.Username != "" {
		options = append(options, remote.WithAuth(&authn.Basic{Username: access.Username, Password: access.Password}))
	}
	ref, err := name.ParseReference(reference, how...)
	if err != nil {
		return "", fmt.Errorf("read the reference %q: %w", reference, err)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := remote.Head(ref, append(options, remote.WithContext(ctx))...)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", reference, err)
	}
	return found.Digest.String(), nil
}
