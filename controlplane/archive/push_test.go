package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.uber.org/goleak"

	"github.com/skerry-io/skerry/controlplane/registry"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// cluster is the way to a registry in the cluster, which counts what is sent.
type cluster struct {
	t        *testing.T
	registry *registry.Registry
	dir      string
	base     *http.Transport
	host     string

	mu   sync.Mutex
	sent map[string]int // by method; guarded by mu
	// cut fails the requests that it says true for.
	cut func(*http.Request) bool
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), base: &http.Transport{}, sent: map[string]int{}}
	r, err := registry.Open(c.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	c.registry, c.host = r, strings.TrimPrefix(server.URL, "http://")
	t.Cleanup(func() {
		c.base.CloseIdleConnections()
		server.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// RoundTrip implements http.RoundTripper.
func (c *cluster) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.sent[r.Method]++
	cut := c.cut
	c.mu.Unlock()
	if r.URL.Scheme != "http" {
		c.t.Errorf("%s %s", r.Method, r.URL)
	}
	if cut != nil && cut(r) {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errors.New("the connection is cut")
	}
	r = r.Clone(r.Context())
	r.URL.Host = c.host
	return c.base.RoundTrip(r)
}

func (c *cluster) counted() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := c.sent
	c.sent = map[string]int{}
	return sent
}

func (c *cluster) option() remote.Option { return remote.WithTransport(plain{c}) }

func (c *cluster) ref(image string) name.Reference {
	return must(name.ParseReference("registry.skerry.internal/"+image, name.Insecure))
}

// blobs counts the registry's blobs.
func (c *cluster) blobs() int {
	return len(must(filepath.Glob(filepath.Join(c.dir, "docker/registry/v2/blobs/*/*/*/data"))))
}

// opened opens an archive of those files.
func opened(t *testing.T, data []byte) *Archive {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// pull reads all of an image, whose digests the client checks. (Its own check,
// the validate package, takes gzipped layers only.)
func pull(t *testing.T, img v1.Image) {
	t.Helper()
	layers, err := img.Layers()
	if err == nil {
		_, err = img.ConfigFile()
	}
	for _, l := range layers {
		if err == nil {
			_, err = io.Copy(io.Discard, must(l.Compressed()))
		}
	}
	if err != nil {
		t.Errorf("pull: %v", err)
	}
}

func push(t *testing.T, a *Archive, name string, c *cluster) {
	t.Helper()
	if err := a.Push(context.Background(), name, c); err != nil {
		t.Fatal(err)
	}
}

// Every form of archive arrives as the image that it is, once, and goes again.
func TestPushedAndPulled(t *testing.T) {
	img := imageOf(1, 3)
	path := filepath.Join(t.TempDir(), "ggcr.tar")
	if err := tarball.WriteToFile(path, must(name.NewTag("localhost/web:1")), img); err != nil {
		t.Fatal(err)
	}
	for form, data := range map[string][]byte{
		"OCI":             pack(oci(t, img)...),
		"docker":          pack(docker(img)...),
		"docker, gzipped": must(os.ReadFile(path)),
	} {
		t.Run(form, func(t *testing.T) {
			c, a := newCluster(t), opened(t, data)
			push(t, a, "team/web", c)
			if sent := c.counted(); sent[http.MethodPatch] != 4 {
				t.Errorf("sent %v, want 4 blobs", sent)
			}
			got := must(remote.Image(c.ref("team/web@"+a.Digest()), c.option()))
			pull(t, got)
			if diff := cmp.Diff(string(must(img.RawConfigFile())), string(must(got.RawConfigFile()))); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
			c.counted()
			push(t, a, "team/web", c)
			if diff := cmp.Diff(map[string]int{http.MethodGet: 1, http.MethodHead: 1}, c.counted()); diff != "" {
				t.Errorf("the second push sends (-want +got):\n%s", diff)
			}
			if err := c.registry.Delete(t.Context(), "team/web", a.Digest()); err != nil {
				t.Error(err)
			}
			if n := c.blobs(); n != 0 {
				t.Errorf("%d blobs are left", n)
			}
		})
	}
}

func TestAnIndexIsPushedWhole(t *testing.T) {
	c := newCluster(t)
	amd, arm := imageOf(1, 2), imageOf(2, 2)
	multi, single := opened(t, pack(oci(t, indexOf(amd, arm))...)), opened(t, pack(oci(t, arm)...))
	push(t, multi, "web", c)
	push(t, single, "web", c)
	index := must(remote.Index(c.ref("web@"+multi.Digest()), c.option()))
	for _, child := range must(index.IndexManifest()).Manifests {
		pull(t, must(index.Image(child.Digest)))
	}
	// The image that is both stays, having been pushed as itself.
	if err := c.registry.Delete(t.Context(), "web", multi.Digest()); err != nil {
		t.Error(err)
	}
	if found, err := c.registry.Has(t.Context(), "web", must(amd.Digest()).String()); found || err != nil {
		t.Errorf("a platform of the deleted index: %v, %v", found, err)
	}
	pull(t, must(remote.Image(c.ref("web@"+single.Digest()), c.option())))
}

// The second push sends what the first one could not.
func TestAPushThatIsCutShort(t *testing.T) {
	c := newCluster(t)
	a := opened(t, pack(docker(imageOf(1, 3))...))
	var config v1.Hash
	for h := range a.configs {
		config = h
	}
	c.cut = func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Get("digest") == config.String()
	}
	err := a.Push(t.Context(), "web", c)
	if err == nil || !strings.Contains(err.Error(), "the connection is cut") || !strings.HasPrefix(err.Error(), "push image archive "+a.path+" as web: ") {
		t.Fatalf("%v", err)
	}
	if err := c.registry.Delete(t.Context(), "web", a.Digest()); err != nil {
		t.Fatal(err)
	}
	c.cut = nil
	push(t, a, "web", c)
	pull(t, must(remote.Image(c.ref("web@"+a.Digest()), c.option())))
}

func TestADamagedLayerIsNotPushed(t *testing.T) {
	img := imageOf(1, 1)
	data := pack(oci(t, img)...)
	layer := must(must(img.Layers())[0].Digest())
	at := bytes.Index(data, []byte("blobs/sha256/"+layer.Hex)) + 512 + 100
	data[at] ^= 1
	c, a := newCluster(t), opened(t, data)
	err := a.Push(t.Context(), "web", c)
	want := "push image archive " + a.path + " as web: its layer " + layer.String() + " is damaged or was changed"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	if found, err := c.registry.Has(t.Context(), "web", a.Digest()); found || err != nil {
		t.Errorf("Has: %v, %v", found, err)
	}
}

func TestACanceledPush(t *testing.T) {
	c, a := newCluster(t), opened(t, pack(docker(imageOf(1, 2))...))
	ctx, cancel := context.WithCancel(t.Context())
	c.cut = func(r *http.Request) bool {
		if r.Method == http.MethodPatch {
			cancel()
		}
		return false
	}
	if err := a.Push(ctx, "web", c); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := a.Push(t.Context(), "Not a name", c); err == nil {
		t.Error("a bad name was taken")
	}
}
