package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// buildVersion builds the program and the plugin of another version, and gives
// their directory.
func buildVersion(t testing.TB, version string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(env, name string, args ...string) {
		t.Helper()
		c := exec.Command(name, args...)
		c.Dir, c.Env = root, append(os.Environ(), env)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	flags := "-s -w -X main.version=" + version
	program, packed := filepath.Join(dir, "skerry"), filepath.Join(dir, "skerry.zst")
	run("CGO_ENABLED=0", "go", "build", "-ldflags", flags, "-o", program, "./cmd/skerry")
	run("", "zstd", "-q", "-3", program, "-o", packed)
	// The plugin carries this program instead of the one in the tree.
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(root, "provider/binary/programs/skerry_linux_"+runtime.GOARCH+".zst"): packed,
	}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run("CGO_ENABLED=1", "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags", flags, "-o", filepath.Join(dir, "terraform-provider-skerry"), "./cmd/terraform-provider-skerry")
	return dir
}
