package libvirtnodes

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/test/libvirttest"
)

// sparseImage has a boot sector, holes, and data between them; nothing after
// the boot sector begins with the hole that a stream leaves out.
func sparseImage(t *testing.T) (*os.File, []byte) {
	t.Helper()
	content := make([]byte, 16<<20)
	file, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() }) //nolint:errcheck // it was read
	for at, piece := range map[int]string{0: "boot", 5 << 20: "middle", 16<<20 - 3: "end"} {
		copy(content[at:], piece)
		if _, err := file.WriteAt([]byte(piece), int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	return file, content
}

func TestUpload(t *testing.T) {
	hypervisor := libvirttest.Start(t)
	hosts := New(slog.New(slog.DiscardHandler))
	t.Cleanup(hosts.Close)
	host, err := hosts.Host(hypervisor.URI)
	if err != nil {
		t.Fatal(err)
	}
	image, want := sparseImage(t)
	decoys := t.TempDir()
	decoy := filepath.Join(decoys, "decoy.img")
	if err := os.WriteFile(decoy, make([]byte, len(want)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, dir string }{
		{"here", hypervisor.PoolDir},
		{"stream", t.TempDir()},
		// The hypervisor of another machine has the same paths.
		{"decoy", decoys},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := host.openPool(hypervisor.Pool)
			if err != nil {
				t.Fatal(err)
			}
			defer p.free()
			p.dir = test.dir
			name := test.name + ".img"
			if err := p.uploadBase(name, image, int64(len(want))); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(hypervisor.PoolDir, name)
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the volume has not the image's content: %v", err)
			}
			if done, err := p.complete(name); err != nil || !done {
				t.Errorf("the volume is not complete: %v", err)
			}
			if allocated := blocks(t, path) * 512; allocated > 2<<20 {
				t.Errorf("the volume takes %d bytes, and has lost its holes", allocated)
			}
		})
	}
	if got, err := os.ReadFile(decoy); err != nil || !bytes.Equal(got, make([]byte, len(want))) {
		t.Errorf("the file that is not the volume was written to: %v", err)
	}
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks
}
