package libvirtnodes

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/skerry-io/skerry/resources"
)

// rawDisk is the content of a raw image: a boot sector, a hole, and an end.
func rawDisk() []byte {
	content := make([]byte, 1<<20)
	copy(content, "boot")
	copy(content[len(content)-512:], "end")
	return content
}

func checksum(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func cache(t *testing.T) images {
	t.Helper()
	return images{dir: t.TempDir(), log: slog.New(slog.DiscardHandler)}
}

// whole gets the image and returns its content.
func whole(t *testing.T, i images, image resources.NodeImage) ([]byte, *localImage) {
	t.Helper()
	local, err := i.get(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(local.close)
	content, err := io.ReadAll(io.NewSectionReader(local.file, 0, local.size))
	if err != nil {
		t.Fatal(err)
	}
	return content, local
}

func TestImagesAreUnpacked(t *testing.T) {
	pack := map[string]func(io.Writer) io.WriteCloser{
		"plain": func(w io.Writer) io.WriteCloser {
			return struct {
				io.Writer
				io.Closer
			}{w, io.NopCloser(nil)}
		},
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"xz":   func(w io.Writer) io.WriteCloser { p, _ := xz.NewWriter(w); return p },
		"zstd": func(w io.Writer) io.WriteCloser { p, _ := zstd.NewWriter(w); return p },
	}
	for name, packer := range pack {
		t.Run(name, func(t *testing.T) {
			var packed bytes.Buffer
			w := packer(&packed)
			if _, err := w.Write(rawDisk()); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(path, packed.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			content, local := whole(t, cache(t), resources.NodeImage{Source: path, Checksum: checksum(packed.Bytes())})
			if !bytes.Equal(content, rawDisk()) || local.header.format != "raw" {
				t.Errorf("the image is not what was packed: %d bytes, %s", len(content), local.header.format)
			}
		})
	}
}

func TestAWrongChecksumIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, rawDisk(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := cache(t).get(t.Context(), resources.NodeImage{Source: path, Checksum: "sha256:" + strings.Repeat("0", 64)})
	if err == nil || !strings.Contains(err.Error(), "image.checksum") || !strings.Contains(err.Error(), checksum(rawDisk())) {
		t.Errorf("error %v, want one that names the attribute and the checksum that the file has", err)
	}
}

func TestWhatIsNoImageIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, []byte("<html>not here</html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cache(t).get(t.Context(), resources.NodeImage{Source: path}); err == nil || !strings.Contains(err.Error(), "neither a qcow2 image nor a raw one") {
		t.Errorf("error %v", err)
	}
}

// flaky serves an image, and breaks off in the middle as often as it is told.
type flaky struct {
	breaks  atomic.Int32
	ranges  atomic.Int32
	fails   atomic.Int32
	content []byte
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.fails.Add(-1) >= 0 {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	if r.Header.Get("Range") != "" {
		f.ranges.Add(1)
	}
	w.Header().Set("ETag", `"one"`)
	if f.breaks.Add(-1) >= 0 {
		w = &cut{ResponseWriter: w, left: len(f.content) / 2}
	}
	http.ServeContent(w, r, "image", time.Time{}, bytes.NewReader(f.content))
}

type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		c.ResponseWriter.(http.Flusher).Flush() //nolint:forcetypeassert // net/http's own
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

func TestADownloadGoesOnWhereItBrokeOff(t *testing.T) {
	f := &flaky{content: rawDisk()}
	f.breaks.Store(1)
	f.fails.Store(1)
	server := httptest.NewServer(f)
	defer server.Close()
	i := cache(t)
	image := resources.NodeImage{Source: server.URL + "/image", Checksum: checksum(rawDisk())}
	content, _ := whole(t, i, image)
	if !bytes.Equal(content, rawDisk()) {
		t.Error("the download is not the image")
	}
	if f.ranges.Load() == 0 {
		t.Error("the download began anew")
	}
	// What is there is not fetched again.
	f.fails.Store(1 << 20)
	whole(t, i, image)
}

func TestADownloadThatIsRefusedSaysSo(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := cache(t).get(t.Context(), resources.NodeImage{Source: server.URL + "/image"})
	if err == nil || !strings.Contains(err.Error(), "image.source") || !strings.Contains(err.Error(), "404") {
		t.Errorf("error %v", err)
	}
}
