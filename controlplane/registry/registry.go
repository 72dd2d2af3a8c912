package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
)

// Registry is an image registry over a directory. Its methods may be called at
// the same time.
type Registry struct {
	tree    tree
	log     *slog.Logger
	library *logrus.Entry
	app     *handlers.App
	driver  driver.StorageDriver
	images  distribution.Namespace
	holds   holds
}

// threads bounds the library's file operations at a time. A thread serves a
// whole blob, so this is not the number of cores.
const threads = 100

// Open opens the registry kept in dir, and makes dir where it is absent. What
// pushes left there unfinished is removed. One process at a time may open a dir.
func Open(dir string, log *slog.Logger) (*Registry, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the registry's directory: %w", err)
	}
	r := &Registry{tree: tree(dir), log: log, library: quietLogger(log)}
	r.holds.since = map[held]time.Time{}
	r.holds.now = time.Now
	ctx := r.quiet(context.Background())
	r.app = handlers.NewApp(ctx, settings(dir))
	r.driver = filesystem.New(filesystem.DriverParameters{RootDirectory: dir, MaxThreads: threads})
	images, err := storage.NewRegistry(ctx, r.driver, storage.EnableDelete)
	if err != nil {
		return nil, fmt.Errorf("open registry %s: %w", dir, err)
	}
	r.images = images
	r.holds.Lock()
	defer r.holds.Unlock()
	if err := r.tree.removeUploads(time.Now()); err != nil {
		return nil, err
	}
	content, err := r.scan(ctx)
	if err == nil {
		err = r.sweep(ctx, content)
	}
	if err != nil {
		log.Warn("the registry's unused blobs stay", "error", err)
	}
	return r, nil
}

// settings are those of the library: no metrics, no health checks, no cache
// (collections would make it lie), no deletion and no purging of its own.
func settings(dir string) *configuration.Configuration {
	c := &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem":  {"rootdirectory": dir, "maxthreads": threads},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
			"redirect":    {"disable": true},
		},
	}
	// Signs the state of uploads, none of which outlives the process.
	c.HTTP.Secret = rand.Text()
	// Clients come through proxies on other addresses.
	c.HTTP.RelativeURLs = true
	return c
}

func (r *Registry) quiet(ctx context.Context) context.Context {
	return quiet{ctx, r.library}
}

// Close ends the use of the directory. Requests should have ended before. One
// idle goroutine of the library stays, which nothing can end.
func (r *Registry) Close() error {
	if err := r.app.Shutdown(); err != nil {
		return fmt.Errorf("close registry %s: %w", r.tree, err)
	}
	return nil
}

// Has tells whether the image of that name (`team/web`) and digest
// (`sha256:HEX`) is there, whole: a manifest is taken only once all that it
// refers to is there.
func (r *Registry) Has(ctx context.Context, name, dgst string) (bool, error) {
	named, d, err := parse(name, dgst)
	if err != nil {
		return false, err
	}
	ctx = r.quiet(ctx)
	manifests, err := r.manifests(ctx, named)
	if err != nil {
		return false, err
	}
	found, err := manifests.Exists(ctx, d)
	if err != nil {
		return false, fmt.Errorf("look up image %s@%s: %w", name, d, err)
	}
	return found, nil
}

// Delete deletes the image with its tags, and collects the blobs that nothing
// needs any more. An image that is part of another (a platform of an index)
// loses its tags only, and goes with the other. An absent image is success. An
// error means that the image may still be there, whole or in part, and that
// Delete should be called again.
func (r *Registry) Delete(ctx context.Context, name, dgst string) error {
	named, d, err := parse(name, dgst)
	if err != nil {
		return err
	}
	ctx = r.quiet(ctx)
	r.holds.Lock()
	defer r.holds.Unlock()
	content, err := r.scan(ctx)
	if err != nil {
		return err
	}
	if err := r.remove(ctx, named, d, content); err != nil {
		return fmt.Errorf("delete image %s@%s: %w", name, d, err)
	}
	if err := r.tree.removeUploads(time.Now().Add(-uploadAge)); err != nil {
		return err
	}
	return r.sweep(ctx, content)
}

// parse checks the name and digest of an image.
func parse(name, dgst string) (reference.Named, digest.Digest, error) {
	named, nameErr := reference.WithName(name)
	if nameErr != nil {
		nameErr = fmt.Errorf("%q is not an image's name: %w", name, nameErr)
	}
	d, digestErr := digest.Parse(dgst)
	if digestErr != nil {
		digestErr = fmt.Errorf("%q is not an image's digest, such as sha256:HEX: %w", dgst, digestErr)
	}
	return named, d, errors.Join(nameErr, digestErr)
}

// manifests gives the manifests of a repository.
func (r *Registry) manifests(ctx context.Context, named reference.Named) (distribution.ManifestService, error) {
	repository, err := r.images.Repository(ctx, named)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", named, err)
	}
	manifests, err := repository.Manifests(ctx)
	if err != nil {
		return nil, fmt.Errorf("open manifests of %s: %w", named, err)
	}
	return manifests, nil
}

var _ http.Handler = (*Registry)(nil)
