package podmanruntime

import (
	"context"
	"errors"
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
func (r *Runtime) StreamLogs(ctx context.Context, id string, o resources.LogOptions, w io.Writer) (err error) {
	ctx, err = r.connect(ctx)
	if err != nil {
		return err
	}
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	options := new(containers.LogOptions).WithStdout(true).WithStderr(true).WithFollow(o.Follow).WithTimestamps(o.Timestamps)
	if !o.Until.IsZero() {
		options = options.WithUntil(o.Until.UTC().Format(time.RFC3339Nano))
		if o.Tail >= 0 {
			// Podman counts the last lines before it leaves out those that are too late.
			last := &lastLines{to: w, most: o.Tail}
			defer func() { err = errors.Join(err, last.end()) }()
			w = last
		}
	} else if o.Tail >= 0 {
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

// lastLines keeps the last of the lines that are written to it, until its end.
type lastLines struct {
	to    io.Writer
	most  int
	lines []string
}

func (l *lastLines) Write(line []byte) (int, error) {
	l.lines = append(l.lines, string(line))
	l.lines = l.lines[max(0, len(l.lines)-l.most):]
	return len(line), nil
}

func (l *lastLines) end() error {
	_, err := io.WriteString(l.to, strings.Join(l.lines, ""))
	return err
}
