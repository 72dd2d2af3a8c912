package podmantest

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/test/images"
)

func TestServiceAnswersAndLeavesNothing(t *testing.T) {
	var namespace string
	t.Run("service", func(t *testing.T) {
		s := StartService(t)
		namespace = s.Namespace
		reference := s.Load(t, images.Archive(t))
		if reference != images.Reference("1") {
			t.Errorf("loaded %q, want %q", reference, images.Reference("1"))
		}
		output, err := s.Podman(t.Context(), "run", "--env", "EXIT=3", reference).CombinedOutput()
		if !strings.Contains(string(output), "exiting with 3") {
			t.Errorf("run: %v\n%s", err, output)
		}
		s.Down(t)
		s.Up(t)
	})
	if namespace == "" {
		t.Skip("no service was started")
	}
	mounts, _ := exec.Command("sh", "-c", "ip netns; cat /proc/mounts; ls /tmp").Output()
	if strings.Contains(string(mounts), namespace) {
		t.Errorf("%s is left on the machine:\n%s", namespace, mounts)
	}
}
