package podmanruntime

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/containers/podman/v4/pkg/bindings/containers"

	"github.com/skerry-io/skerry/resources"
)

// StreamLogs writes lines that the container wrote, both outputs in the order
// of their arrival. It returns when there are no more, or w takes no more.
func (r *Runtime) StreamLogs(ctx context.Context, id string, o resources.LogOptions, w io.Writer) error {
	ctx, err := r.connect(ctx)
	if err != nil {
		return err
	}
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	options := new(containers.LogOptions).WithStdout(true).WithStderr(true).WithFollow(o.Follow).WithTimestamps(o.Timestamps)
	if o.Tail >= 0 {
		options = options.WithTail(strconv.Itoa(o.Tail))
	}
	if !o.Since.IsZero() {
		options = options.WithSince(o.Since.UTC().Format(time.RFC3339Nano))
	}
	// One channel for both outputs keeps their order.
	frames, done := make(chan string), make(chan error, 1)
	go func() {
		done <- containers.Logs(following, id, options, frames, frames)
		close(frames)
	}()
	var broken error
	for frame := range frames {
		if broken == nil {
			_, broken = io.WriteString(w, strings.TrimRight(frame, "\r\n")+"\n")
		}
		if broken != nil {
			cancel() // and take what is on its way
		}
	}
	if err := <-done; err != nil && broken == nil && ctx.Err() == nil {
		return fmt.Errorf("read logs of container %s: %w", short(id), err)
	}
	return broken
}
