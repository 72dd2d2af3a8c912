package registry_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/skerry-io/skerry/controlplane/archive"
	"github.com/skerry-io/skerry/controlplane/registry"
	"github.com/skerry-io/skerry/resources"
)

// served is a registry behind a transport that leads there whatever the host.
type served struct {
	*registry.Registry
	to *url.URL
}

func open(t *testing.T, dir string) served {
	t.Helper()
	r, err := registry.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(func() { server.Close(); r.Close() }) //nolint:errcheck // the directory is removed
	to, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return served{r, to}
}

func (s served) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = s.to.Host
	return http.DefaultTransport.RoundTrip(r)
}

// push pushes the file, and returns the image's digest.
func (s served) push(t *testing.T, image, file string) string {
	t.Helper()
	a, err := archive.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close() //nolint:errcheck // it was read
	if err := a.Push(t.Context(), image, s); err != nil {
		t.Fatal(err)
	}
	return a.Digest()
}

func (s served) pull(t *testing.T, image, digest string) (v1.Image, error) {
	t.Helper()
	ref, err := name.NewDigest(resources.ImageReference(image, digest), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return remote.Image(ref, remote.WithTransport(s))
}

func (s served) has(t *testing.T, image, digest string) bool {
	t.Helper()
	found, err := s.Has(t.Context(), image, digest)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func dockerArchive(t *testing.T) string {
	t.Helper()
	image, err := random.Image(1<<16, 3)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(file, name.MustParseReference("localhost/x:1"), image); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAnImageIsPushedPulledAndRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	digest := s.push(t, "team/web", dockerArchive(t))
	if !s.has(t, "team/web", digest) || s.has(t, "team/other", digest) {
		t.Fatal("the registry does not know what it has")
	}
	image, err := s.pull(t, "team/web", digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Errorf("what was pulled is not whole: %v", err)
	}
	// A registry that is opened again has what it had.
	again := open(t, dir)
	if !again.has(t, "team/web", digest) {
		t.Error("the image is gone after a restart")
	}
	for range 2 {
		if err := again.Delete(t.Context(), "team/web", digest); err != nil {
			t.Fatal(err)
		}
	}
	if again.has(t, "team/web", digest) {
		t.Error("a removed image is there")
	}
	// The registry above has seen no push, so nothing is in the way of collecting.
	if left := blobs(t, dir); len(left) > 0 {
		t.Errorf("blobs that nothing needs: %v", left)
	}
}

func blobs(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(filepath.Join(dir, "docker/registry/v2/blobs"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The digest of a docker archive follows from its content, and that of an OCI
// archive is the one that it states; an index is pushed whole.
func TestAnIndexIsPushedWhole(t *testing.T) {
	index, err := random.Index(1<<12, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "index.tar")
	writeTar(t, dir, file)
	s := open(t, t.TempDir())
	digest := s.push(t, "web", file)
	if want, err := index.Digest(); err != nil || digest != want.String() {
		t.Fatalf("digest %s, want %s (%v)", digest, want, err)
	}
	ref, err := name.NewDigest(resources.ImageReference("web", digest), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Index(ref, remote.WithTransport(s))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(pulled); err != nil {
		t.Errorf("what was pulled is not whole: %v", err)
	}
}

// While one image is pushed, the removal of another collects nothing that the
// push has sent.
func TestARemovalLeavesAPushAlone(t *testing.T) {
	s := open(t, t.TempDir())
	first := s.push(t, "first", dockerArchive(t))
	response, err := (&http.Client{Transport: s}).Post("http://x/v2/second/blobs/uploads/", "", strings.NewReader(""))
	if err != nil || response.StatusCode != http.StatusAccepted {
		t.Fatalf("begin an upload: %v %v", response, err)
	}
	io.Copy(io.Discard, response.Body) //nolint:errcheck // it is empty
	response.Body.Close()              //nolint:errcheck // it was read
	if err := s.Delete(t.Context(), "first", first); err != nil {
		t.Fatal(err)
	}
	if s.has(t, "first", first) {
		t.Error("a removed image is there")
	}
}
