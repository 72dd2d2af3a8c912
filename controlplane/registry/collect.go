package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// uploadAge is how long an upload may rest before it counts as given up.
const uploadAge = 24 * time.Hour

// graph holds the manifests of one repository, each with the digests that it
// refers to: blobs, and manifests of the same repository.
type graph map[digest.Digest][]digest.Digest

// content is what the registry has, by the repository's name.
type content struct {
	repositories map[string]graph
	// unreadable are the manifests whose references are not known, with the reasons.
	unreadable map[held]error
}

// scan reads every manifest.
func (r *Registry) scan(ctx context.Context) (*content, error) {
	c := &content{repositories: map[string]graph{}, unreadable: map[held]error{}}
	names, err := r.tree.repositories()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := r.scanRepository(ctx, name, c); err != nil {
			return nil, fmt.Errorf("list images of %s: %w", name, err)
		}
	}
	return c, nil
}

func (r *Registry) scanRepository(ctx context.Context, name string, c *content) error {
	named, err := reference.WithName(name)
	if err != nil {
		return err
	}
	manifests, err := r.manifests(ctx, named)
	if err != nil {
		return err
	}
	digests, err := r.tree.manifests(name)
	if err != nil {
		return err
	}
	g := graph{}
	c.repositories[name] = g
	for _, d := range digests {
		g[d] = nil
		m, err := manifests.Get(ctx, d)
		if err != nil {
			c.unreadable[held{name, d}] = err
			continue
		}
		for _, ref := range m.References() {
			g[d] = append(g[d], ref.Digest)
		}
	}
	return nil
}

// remove removes the image, its tags, and the manifests that only it needed,
// from the registry and from c. The mutex of the holds is locked.
func (r *Registry) remove(ctx context.Context, named reference.Named, d digest.Digest, c *content) error {
	manifests := c.repositories[named.Name()]
	if _, ok := manifests[d]; !ok {
		return nil
	}
	repository, err := r.images.Repository(ctx, named)
	if err != nil {
		return err
	}
	tags, err := repository.Tags(ctx).Lookup(ctx, v1.Descriptor{Digest: d})
	if err != nil && !absent(err) {
		return fmt.Errorf("find its tags: %w", err)
	}
	for _, tag := range tags {
		if err := repository.Tags(ctx).Untag(ctx, tag); err != nil && !absent(err) {
			return fmt.Errorf("remove tag %s: %w", tag, err)
		}
	}
	tagged, err := r.tagged(ctx, repository)
	if err != nil {
		return err
	}
	r.holds.expire()
	going := manifests.needless(d, func(child digest.Digest) bool {
		return tagged[child] || r.holds.has(named.Name(), child)
	})
	vacuum := storage.NewVacuum(ctx, r.driver)
	// Children first: one that is left behind by a crash is still found by its parent.
	for _, g := range slices.Backward(going) {
		if err := vacuum.RemoveManifest(named.Name(), g, nil); err != nil && !absent(err) {
			return fmt.Errorf("remove manifest %s: %w", g, err)
		}
		delete(manifests, g)
		delete(c.unreadable, held{named.Name(), g})
		delete(r.holds.since, held{named.Name(), g})
	}
	return nil
}

// tagged are the digests that the tags of the repository name.
func (r *Registry) tagged(ctx context.Context, repository distribution.Repository) (map[digest.Digest]bool, error) {
	found := map[digest.Digest]bool{}
	tags, err := repository.Tags(ctx).All(ctx)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	for _, tag := range tags {
		target, err := repository.Tags(ctx).Get(ctx, tag)
		if err != nil && !absent(err) {
			return nil, fmt.Errorf("read tag %s: %w", tag, err)
		}
		found[target.Digest] = true
	}
	return found, nil
}

// needless are the manifests that go with root, parents before children: root,
// and what only those that go refer to, less what is kept. Nothing goes where
// another manifest refers to root.
func (g graph) needless(root digest.Digest, kept func(digest.Digest) bool) []digest.Digest {
	going := []digest.Digest{root}
	free := func(d digest.Digest) bool {
		for parent, refs := range g {
			if !slices.Contains(going, parent) && slices.Contains(refs, d) {
				return false
			}
		}
		return true
	}
	if !free(root) {
		return nil
	}
	for changed := true; changed; {
		changed = false
		for _, parent := range slices.Clone(going) {
			for _, d := range g[parent] {
				_, isManifest := g[d]
				if isManifest && !slices.Contains(going, d) && !kept(d) && free(d) {
					going = append(going, d)
					changed = true
				}
			}
		}
	}
	return going
}

// sweep removes each blob that neither a manifest refers to nor a push holds,
// and each repository's links to blobs likewise. The mutex of the holds is
// locked. With a manifest that can't be read it removes nothing and says so in
// the log: whose blobs they are is not known then.
func (r *Registry) sweep(ctx context.Context, c *content) error {
	for m, err := range c.unreadable {
		r.log.Warn("the registry's unused blobs stay: a manifest can't be read; delete that image",
			"image", m.name+"@"+m.digest.String(), "error", err)
	}
	if len(c.unreadable) > 0 {
		return nil
	}
	r.holds.expire()
	vacuum := storage.NewVacuum(ctx, r.driver)
	used := r.holds.blobs()
	for _, name := range slices.Sorted(maps.Keys(c.repositories)) {
		local := c.repositories[name].blobs()
		maps.Copy(used, local)
		if err := r.sweepLinks(vacuum, name, local); err != nil {
			return fmt.Errorf("collect blobs of %s: %w", name, err)
		}
	}
	blobs, err := r.tree.blobs()
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	unused := slices.DeleteFunc(blobs, func(d digest.Digest) bool { return used[d] })
	for _, d := range unused {
		if err := vacuum.RemoveBlob(d.String()); err != nil && !absent(err) {
			return fmt.Errorf("remove blob %s: %w", d, err)
		}
	}
	if len(unused) > 0 {
		r.log.Info("collected unused blobs of the registry", "blobs", len(unused))
	}
	return nil
}

// blobs are the manifests and all that they refer to.
func (g graph) blobs() map[digest.Digest]bool {
	found := map[digest.Digest]bool{}
	for d, refs := range g {
		found[d] = true
		for _, ref := range refs {
			found[ref] = true
		}
	}
	return found
}

// sweepLinks removes the links of a repository to blobs that it does not use.
func (r *Registry) sweepLinks(vacuum storage.Vacuum, name string, used map[digest.Digest]bool) error {
	links, err := r.tree.links(name)
	if err != nil {
		return err
	}
	for _, d := range links {
		if used[d] || r.holds.has(name, d) {
			continue
		}
		if err := vacuum.RemoveLayer(name, d); err != nil && !absent(err) {
			return fmt.Errorf("remove link to %s: %w", d, err)
		}
	}
	return nil
}

// absent tells the library's many ways to say that something is not there.
func absent(err error) bool {
	var noPath driver.PathNotFoundError
	var noRepository distribution.ErrRepositoryUnknown
	var noTag distribution.ErrTagUnknown
	var noManifest distribution.ErrManifestUnknown
	return errors.As(err, &noPath) || errors.As(err, &noRepository) || errors.As(err, &noTag) ||
		errors.As(err, &noManifest) || errors.Is(err, distribution.ErrBlobUnknown)
}
