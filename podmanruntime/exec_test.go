package podmanruntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
