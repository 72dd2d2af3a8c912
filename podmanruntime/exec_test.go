package podmanruntime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/resources"
)

func testExec(t *testing.T, n node) {
	id, _ := n.run(t, "exec-0-a", nil)
	for _, want := range []int{0, 3} {
		code, output, err := n.Exec(t.Context(), id, []string{"/web", "-exit", fmt.Sprint(want)})
		if code != want || err != nil || output != fmt.Sprintf("exiting with %d, as asked", want) {
			t.Errorf("%d, %q, %v", code, output, err)
		}
	}
	// Podman 4.3 answers as a shell does, newer ones with an error.
	if code, output, err := n.Exec(t.Context(), id, []string{"/nothing"}); err == nil && code != 127 {
		t.Errorf("a command that is not there: %d, %q", code, output)
	}
	if _, _, err := n.Exec(t.Context(), "absent", []string{"/web"}); err == nil {
		t.Error("a container that is not there runs a command")
	}
	// One that takes too long is ended, and the container runs on.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := n.Exec(ctx, id, []string{"/web", "-listen", ":9"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that does not end: %v", err)
	}
	if c, found := n.listed(t, id); !found || !c.Running {
		t.Errorf("the container afterwards: %+v, %v", c, found)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		if text, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(text), "/web\x00-listen\x00:9\x00") {
			t.Errorf("the command still runs: %s", path)
		}
	}
}

func testAttach(t *testing.T, n node) {
	id, _ := n.run(t, "attach-0-a", nil)
	var out, errs bytes.Buffer
	code, err := n.Attach(t.Context(), id, resources.Command{Args: []string{"/web", "-echo", "7"}, Input: true},
		resources.Streams{In: strings.NewReader("one\ntwo\n"), Out: &out, Err: &errs})
	if code != 7 || err != nil || out.String() != "one\ntwo\n" || !strings.Contains(errs.String(), "exiting with 7") {
		t.Errorf("%d, %v; out %q, errors %q", code, err, out.String(), errs.String())
	}
	// With a terminal both are one, and its size can be changed.
	out.Reset()
	resize := make(chan resources.TerminalSize, 1)
	resize <- resources.TerminalSize{Width: 100, Height: 40}
	in, typed := io.Pipe()
	go func() {
		typed.Write([]byte("hello\n\x04")) //nolint:errcheck // the command reads it
	}()
	code, err = n.Attach(t.Context(), id, resources.Command{Args: []string{"/web", "-echo", "0"}, Input: true, Terminal: true},
		resources.Streams{In: in, Out: &out, Err: &out, Resize: resize})
	typed.Close() //nolint:errcheck // it ends the reader
	if code != 0 || err != nil || !strings.Contains(out.String(), "hello\r\n") {
		t.Errorf("%d, %v; out %q", code, err, out.String())
	}
	// Other calls go on as before.
	if _, found := n.listed(t, id); !found {
		t.Error("the container is not listed")
	}
}

// lines hands on what is written, line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func testLogStream(t *testing.T, n node) {
	id, _ := n.run(t, "stream-0-a", nil)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	said, ended := make(lines, 10), make(chan error, 1)
	go func() {
		ended <- n.StreamLogs(ctx, id, resources.LogOptions{Follow: true, Tail: -1, Timestamps: true}, said)
	}()
	next := func() string {
		select {
		case line := <-said:
			return line
		case <-ctx.Done():
			return "nothing"
		}
	}
	if line := next(); !strings.HasSuffix(line, " listening on :8080\n") || !strings.HasPrefix(line, "20") {
		t.Errorf("the first line is %q", line)
	}
	if err := n.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if line := next(); !strings.HasSuffix(line, " bye\n") {
		t.Errorf("the next line is %q", line)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// What a run wrote is told from what the next one writes.
	before, second := time.Now(), new(strings.Builder)
	if _, err := n.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		options resources.LogOptions
		want    string
	}{
		{resources.LogOptions{Tail: -1, Until: before}, "listening on :8080\nbye\n"},
		{resources.LogOptions{Tail: 1, Until: before}, "bye\n"},
	} {
		second.Reset()
		if err := n.StreamLogs(ctx, id, c.options, second); err != nil || second.String() != c.want {
			t.Errorf("the log for %+v is %q, %v", c.options, second, err)
		}
	}
	// One that nobody reads any more ends.
	if err := n.StreamLogs(ctx, id, resources.LogOptions{Tail: -1}, brokenPipe{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
