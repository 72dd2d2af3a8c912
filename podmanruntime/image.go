package podmanruntime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/containers/podman/v4/pkg/bindings/images"
	"github.com/containers/podman/v4/pkg/bindings/system"
	"github.com/containers/podman/v4/pkg/domain/entities"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// Pull makes the image present on the node, as the policy says (`missing`,
// `always`, `never`; empty is missing). A digest (`sha256:HEX`) pins what is
// pulled, and may be empty. The logins are those of registries that ask for one. What
// was pulled outlives a power loss. The error is a *resources.Failure.
func (r *Runtime) Pull(ctx context.Context, image, digest, policy string, logins ...resources.Login) error {
	ctx, err := r.connect(ctx)
	if err != nil {
		return err
	}
	reference := imageReference(image, digest)
	if policy != resources.PullAlways {
		present, err := images.Exists(ctx, reference, nil)
		if err != nil {
			return fmt.Errorf("look for image %s: %w", reference, err)
		}
		if present {
			return nil
		}
	}
	if policy == resources.PullNever {
		return &resources.Failure{Reason: resources.ReasonImagePull, Err: fmt.Errorf(
			"image %s is not on the node, and pull_policy is %q; load it there, or set pull_policy to %q",
			reference, resources.PullNever, resources.PullMissing)}
	}
	// The policy of the API has another default in each version of Podman.
	options := new(images.PullOptions).WithQuiet(true).WithPolicy("always")
	if len(logins) > 0 {
		file, err := r.authFile(logins)
		if err != nil {
			return fmt.Errorf("pull image %s: %w", reference, err)
		}
		defer os.Remove(file) //nolint:errcheck // it is in memory
		options = options.WithAuthfile(file)
	}
	pulled, err := images.Pull(ctx, reference, options)
	if err != nil {
		return &resources.Failure{Reason: resources.ReasonImagePull, Err: fmt.Errorf("pull image %s: %w", reference, err)}
	}
	for _, id := range pulled {
		if err := mark(ctx, id, digest != ""); err != nil {
			slog.WarnContext(ctx, "an image that was pulled is not marked, and so never removed", "image", reference, "error", err)
		}
	}
	if err := r.sync(ctx); err != nil {
		return fmt.Errorf("pull image %s: %w", reference, err)
	}
	return nil
}

// marks is the repository of the names by which skerry knows the images that it
// has pulled itself, and so may remove: one that somebody has loaded by hand may
// not be found anywhere else.
const marks = "localhost/io.skerry/pulled"

// mark gives an image its mark. One that has names beside that by which it was
// pulled was there before, and is not skerry's.
func mark(ctx context.Context, id string, byDigest bool) error {
	found, err := images.GetImage(ctx, id, nil)
	if err != nil {
		return err
	}
	own := 1
	if byDigest {
		own = 0
	}
	if isMarked(found.RepoTags) || len(found.RepoTags) > own {
		return nil
	}
	return images.Tag(ctx, id, short(id), marks, nil)
}

func isMarked(tags []string) bool {
	return slices.ContainsFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, marks+":") })
}

// sync returns once Podman's storage is on the disk. Podman does not wait for
// that itself: after a power loss it has images whose files are empty, and
// nobody is told.
func (r *Runtime) sync(ctx context.Context) error {
	root, err := storageRoot(ctx)
	if err != nil {
		return err
	}
	storage, err := os.Open(root)
	if err != nil {
		return fmt.Errorf("wait for the disk: %w", err)
	}
	defer storage.Close() //nolint:errcheck // nothing was written to it
	if err := unix.Syncfs(int(storage.Fd())); err != nil {
		return fmt.Errorf("wait for the disk: sync %s: %w", root, err)
	}
	return nil
}

// StorageRoot is the directory of Podman's images and containers.
func (r *Runtime) StorageRoot(ctx context.Context) (string, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	return storageRoot(ctx)
}

func storageRoot(ctx context.Context) (string, error) {
	info, err := system.Info(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("ask Podman for its storage: %w", err)
	}
	if info.Store == nil || info.Store.GraphRoot == "" {
		return "", errors.New("ask Podman for its storage: the answer has none")
	}
	return info.Store.GraphRoot, nil
}

// Images lists the images of the node, skerry's or not.
func (r *Runtime) Images(ctx context.Context) ([]resources.LocalImage, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := images.List(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	all := make([]resources.LocalImage, 0, len(listed))
	for _, image := range listed {
		if image.ReadOnly {
			continue // in a store that isn't Podman's to change
		}
		all = append(all, resources.LocalImage{ID: image.ID, Size: resources.Bytes(image.Size), InUse: image.Containers > 0, Pulled: isMarked(image.RepoTags)})
	}
	return all, nil
}

// ImageID gives the ID of the image that a replica would run, or nothing where
// the node lacks it.
func (r *Runtime) ImageID(ctx context.Context, image, digest string) (string, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	reference := imageReference(image, digest)
	found, err := images.GetImage(ctx, reference, nil)
	if isNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for image %s: %w", reference, err)
	}
	return found.ID, nil
}

// RemoveImage removes an image with all of its names. An absent one is
// success. It fails where a container has it, or another image is made of it.
func (r *Runtime) RemoveImage(ctx context.Context, id string) error {
	ctx, err := r.connect(ctx)
	if err != nil {
		return err
	}
	listed, err := images.List(ctx, nil)
	if err != nil {
		return fmt.Errorf("remove image %s: list images: %w", short(id), err)
	}
	i := slices.IndexFunc(listed, func(i *entities.ImageSummary) bool { return i.ID == id })
	if i < 0 {
		return nil
	}
	// Podman finds that out only after it has taken all names but one away.
	if listed[i].Containers > 0 {
		return fmt.Errorf("remove image %s: a container has it", short(id))
	}
	// By ID, Podman removes an image of several names only with force, which
	// removes its containers, too. With its last name an image is gone; but that
	// may be one with a digest, and then the image is left without a tag.
	if names := listed[i].RepoTags; len(names) > 0 {
		if _, errs := images.Remove(ctx, names, nil); len(errs) > 0 {
			return fmt.Errorf("remove image %s: %w", short(id), errors.Join(errs...))
		}
	}
	if left, err := images.Exists(ctx, id, nil); err != nil || !left {
		return err
	}
	if _, errs := images.Remove(ctx, []string{id}, nil); len(errs) > 0 {
		return fmt.Errorf("remove image %s: %w", short(id), errors.Join(errs...))
	}
	return nil
}

// imageCommand gives the command (not the entrypoint) that the image runs.
func imageCommand(ctx context.Context, reference string) ([]string, error) {
	report, err := images.GetImage(ctx, reference, nil)
	if err != nil {
		return nil, fmt.Errorf("look up the command of image %s: %w", reference, err)
	}
	if report.ImageData == nil || report.Config == nil {
		return nil, nil
	}
	return report.Config.Cmd, nil
}
