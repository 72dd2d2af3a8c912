package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/skerry-io/skerry/resources"
)

// rootTag begins the tag of each pushed image; its digest's hexadecimal digits end
// it. The registry keeps a tagged image even where it is also part of an index that
// is deleted. It is not the tag `sha256-HEX`, which is for an image's referrers.
const rootTag = "image-"

// jobs is how many blobs are pushed at a time: they share one connection's way.
const jobs = 4

// Push pushes the image to the cluster's registry, as the name given (`web`,
// `team/web`), over a transport that leads there by plain HTTP. What is there
// already is not sent again. Progress goes to the default logger at info level.
func (a *Archive) Push(ctx context.Context, imageName string, transport http.RoundTripper) error {
	if err := a.push(ctx, imageName, transport); err != nil {
		return fmt.Errorf("push image archive %s as %s: %w", a.path, imageName, err)
	}
	return nil
}

func (a *Archive) push(ctx context.Context, imageName string, transport http.RoundTripper) error {
	tag, err := name.NewTag(resources.Registry+"/"+imageName+":"+rootTag+a.root.Hex, name.Insecure, name.StrictValidation)
	if err != nil {
		return err
	}
	what, err := a.pushable(a.root)
	if err != nil {
		return err
	}
	updates, done, logged := make(chan v1.Update, 16), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(logged)
		logProgress(ctx, resources.ImageReference(imageName, a.Digest()), updates, done)
	}()
	err = remote.Push(tag, what,
		remote.WithContext(ctx),
		remote.WithTransport(plain{transport}),
		remote.WithProgress(updates),
		remote.WithJobs(jobs),
		remote.WithNondistributable,
		remote.WithUserAgent("skerry"),
	)
	close(done)
	<-logged
	if d := (*damaged)(nil); errors.As(err, &d) {
		return d // Without the address of the request that it ended.
	}
	return err
}

// logProgress logs each tenth of the way, until updates is closed or done is.
func logProgress(ctx context.Context, image string, updates <-chan v1.Update, done <-chan struct{}) {
	var tenths int64
	for {
		select {
		case u, ok := <-updates:
			if !ok {
				return
			}
			// The total grows while the push finds out what there is to send.
			if now := u.Complete * 10 / max(u.Total, 1); u.Error == nil && now > tenths {
				tenths = now
				slog.InfoContext(ctx, "pushing image", "image", image, "bytes", u.Complete, "of", u.Total)
			}
		case <-done:
			return
		}
	}
}

// plain sends every request by plain HTTP. The pushing library would try HTTPS
// first, which over a tunnel costs a round trip and tells nothing.
type plain struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" {
		r = r.Clone(r.Context())
		r.URL.Scheme = "http"
	}
	return p.RoundTripper.RoundTrip(r)
}
