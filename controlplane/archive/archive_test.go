package archive_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/skerry-io/skerry/controlplane/archive"
)

func write(t testing.TB, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func pack(t testing.TB, parts map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range parts {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func docker(t testing.TB) []byte {
	t.Helper()
	image, err := random.Image(1<<12, 2)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(name.MustParseReference("localhost/x:1"), image, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestErrorsSayWhatIsWrongWithTheFile(t *testing.T) {
	whole := docker(t)
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"no tar file", []byte(strings.Repeat("no tar file", 100)), "tar file"},
		{"cut off", whole[:len(whole)/2], "cut off"},
		{"something else", pack(t, map[string]string{"a": "b"}), "neither an OCI nor a docker archive"},
		{"two images", pack(t, map[string]string{"manifest.json": `[{"Config":"a"},{"Config":"b"}]`}), "it holds 2 images"},
		{"no image", pack(t, map[string]string{"oci-layout": "{}", "index.json": `{"manifests":[]}`}), "it holds 0 images"},
		{"missing configuration", pack(t, map[string]string{"manifest.json": `[{"Config":"a"}]`}), "a is missing in it"},
		{"no JSON", pack(t, map[string]string{"manifest.json": `x`}), "manifest.json is not what it should be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := archive.Open(write(t, c.content))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := archive.Open("/nowhere"); err == nil {
		t.Error("a file that is not there is opened")
	}
}

// The same content has the same digest, wherever and whenever it is read.
func TestTheDigestFollowsFromTheContent(t *testing.T) {
	content := docker(t)
	var digests []string
	for range 2 {
		a, err := archive.Open(write(t, content))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close() //nolint:errcheck // it was read
		digests = append(digests, a.Digest())
	}
	if digests[0] != digests[1] || !strings.HasPrefix(digests[0], "sha256:") {
		t.Errorf("digests %v", digests)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(docker(f))
	f.Add(pack(f, map[string]string{"oci-layout": "{}", "index.json": `{"manifests":[{"digest":"sha256:00"}]}`}))
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := archive.Open(write(t, content))
		if err == nil {
			a.Close() //nolint:errcheck // it was read
		}
	})
}
