package podmanruntime

import (
	"context"
	"fmt"
	"os"

	"github.com/containers/podman/v4/pkg/bindings/images"
	"github.com/containers/podman/v4/pkg/bindings/system"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// Pull makes the image present on the node, as the policy says (`missing`,
// `always`, `never`; empty is missing). A digest (`sha256:HEX`) pins what is
// pulled, and may be empty. What was pulled outlives a power loss. The error is
// a *resources.Failure.
func (r *Runtime) Pull(ctx context.Context, image, digest, policy string) error {
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
	if _, err := images.Pull(ctx, reference, options); err != nil {
		return &resources.Failure{Reason: resources.ReasonImagePull, Err: fmt.Errorf("pull image %s: %w", reference, err)}
	}
	if err := r.sync(ctx); err != nil {
		return fmt.Errorf("pull image %s: %w", reference, err)
	}
	return nil
}

// sync returns once Podman's storage is on the disk. Podman does not wait for
// that itself: after a power loss it has images whose files are empty, and
// nobody is told.
func (r *Runtime) sync(ctx context.Context) error {
	info, err := system.Info(ctx, nil)
	if err != nil {
		return fmt.Errorf("ask Podman for its storage: %w", err)
	}
	storage, err := os.Open(info.Store.GraphRoot)
	if err != nil {
		return fmt.Errorf("wait for the disk: %w", err)
	}
	defer storage.Close() //nolint:errcheck // nothing was written to it
	if err := unix.Syncfs(int(storage.Fd())); err != nil {
		return fmt.Errorf("wait for the disk: sync %s: %w", info.Store.GraphRoot, err)
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
