package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(idle))
}

// idle is where the library's one goroutine per open registry waits for events
// that never come. The library has no way to end it.
const idle = "github.com/docker/go-events.(*Broadcaster).run"

// served is a registry behind an HTTP server.
type served struct {
	*Registry
	t    *testing.T
	dir  string
	host string
	log  *bytes.Buffer
}

func serve(t *testing.T) *served {
	s := &served{t: t, dir: filepath.Join(t.TempDir(), "registry"), log: &bytes.Buffer{}}
	s.open()
	return s
}

func (s *served) open() {
	s.t.Helper()
	r, err := Open(s.dir, slog.New(slog.NewTextHandler(s.log, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(r)
	s.Registry, s.host = r, strings.TrimPrefix(server.URL, "http://")
	s.t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		remote.DefaultTransport.(*http.Transport).CloseIdleConnections()
		server.Close()
		if err := r.Close(); err != nil {
			s.t.Error(err)
		}
	})
}

// ref parses a reference into this registry: NAME:TAG or NAME@DIGEST.
func (s *served) ref(image string) name.Reference {
	s.t.Helper()
	ref, err := name.ParseReference(s.host + "/" + image)
	if err != nil {
		s.t.Fatal(err)
	}
	return ref
}

func (s *served) push(image string, what remote.Taggable) {
	s.t.Helper()
	if err := remote.Push(s.ref(image), what); err != nil {
		s.t.Fatalf("push %s: %v", image, err)
	}
}

func (s *served) has(name, digest string, want bool) {
	s.t.Helper()
	got, err := s.Has(context.Background(), name, digest)
	if err != nil || got != want {
		s.t.Errorf("Has(%s, %s) = %v, %v; want %v", name, digest, got, err, want)
	}
}

func (s *served) remove(name, digest string) {
	s.t.Helper()
	if err := s.Delete(context.Background(), name, digest); err != nil {
		s.t.Fatalf("delete %s@%s: %v", name, digest, err)
	}
}

// pull pulls the image and checks every digest in it.
func (s *served) pull(image string) {
	s.t.Helper()
	img, err := remote.Image(s.ref(image))
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		s.t.Errorf("pull %s: %v", image, err)
	}
}

// blobs counts the blobs on disk.
func (s *served) blobs() int {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "docker/registry/v2/blobs/*/*/*/data"))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(found)
}

func image(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(1024, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestAnImageSurvivesReopeningAndGoesWhole(t *testing.T) {
	s := serve(t)
	img := image(t)
	d := digestOf(t, img)
	s.has("team/web", d, false)
	s.push("team/web@"+d, img)
	s.has("team/web", d, true)
	s.has("web", d, false)
	s.open()
	s.has("team/web", d, true)
	s.pull("team/web@" + d)
	s.remove("web", d)
	s.pull("team/web@" + d)
	s.remove("team/web", d)
	s.has("team/web", d, false)
	s.remove("team/web", d)
	if n := s.blobs(); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestSharedBlobsStay(t *testing.T) {
	s := serve(t)
	base := image(t)
	layer, err := random.Layer(512, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	above, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	s.push("web:1", base)
	s.push("web:2", above)
	s.push("other:1", above)
	s.remove("web", digestOf(t, base))
	s.pull("web:2")
	s.remove("web", digestOf(t, above))
	s.has("web", digestOf(t, above), false)
	s.pull("other:1")
	if _, err := remote.Image(s.ref("web:2")); err == nil {
		t.Error("the tag is still there")
	}
	s.push("web:2", above)
	s.pull("web:2")
}

func TestAnIndexTakesItsChildrenAlong(t *testing.T) {
	s := serve(t)
	shared, own, tagged := image(t), image(t), image(t)
	index := func(images ...v1.Image) v1.ImageIndex {
		idx := v1.ImageIndex(empty.Index)
		for _, img := range images {
			idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img})
		}
		return idx
	}
	first, second := index(shared, own, tagged), index(shared, tagged)
	s.push("web:first", first)
	s.push("web:second", second)
	s.push("web:arm", tagged)

	s.remove("web", digestOf(t, shared))
	s.has("web", digestOf(t, shared), true)
	s.remove("web", digestOf(t, first))
	s.has("web", digestOf(t, first), false)
	s.has("web", digestOf(t, own), false)
	s.pull("web@" + digestOf(t, shared))
	s.remove("web", digestOf(t, second))
	s.has("web", digestOf(t, shared), false)
	s.pull("web:arm")
	s.remove("web", digestOf(t, tagged))
	if n := s.blobs(); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

// A push is stopped between its blobs and its manifest, where a deletion comes.
func TestADeletionInAPush(t *testing.T) {
	s := serve(t)
	old, img := image(t), image(t)
	s.push("web:old", old)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if err := remote.WriteLayer(s.ref("web:new").Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	before := s.blobs()
	s.remove("web", digestOf(t, old))
	if got := s.blobs(); got != before-4 {
		t.Errorf("%d blobs after the deletion, want %d", got, before-4)
	}
	s.push("web:new", img)
	s.pull("web:new")

	// The client of another push saw a blob there, and relies on that.
	fresh, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.Head("http://" + s.host + "/v2/web/blobs/" + d.String())
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		_ = res.Body.Close()
	}
	s.remove("web", digestOf(t, img))
	before = s.blobs()
	if before != len(layers) {
		t.Errorf("%d blobs are held, want %d", before, len(layers))
	}
	s.push("web:fresh", fresh)
	s.pull("web:fresh")
	s.remove("web", digestOf(t, fresh))
	if n := s.blobs(); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestAClientThatNeverComesBack(t *testing.T) {
	s := serve(t)
	layer, err := random.Layer(512, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteLayer(s.ref("web:new").Context(), layer); err != nil {
		t.Fatal(err)
	}
	res, err := http.Post("http://"+s.host+"/v2/web/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	location, err := res.Location()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPatch, location.String(), strings.NewReader("half a la"))
	if err != nil {
		t.Fatal(err)
	}
	if res, err = http.DefaultClient.Do(req); err != nil || res.StatusCode != http.StatusAccepted {
		t.Fatal(res, err)
	}
	_ = res.Body.Close()
	uploads := func() int {
		dirs, err := s.tree.uploads("web")
		if err != nil {
			t.Fatal(err)
		}
		return len(dirs)
	}
	absent := digest.FromString("absent").String()
	s.remove("web", absent)
	if s.blobs() != 1 || uploads() != 1 {
		t.Errorf("%d blobs and %d uploads are left, want 1 and 1", s.blobs(), uploads())
	}
	s.holds.now = func() time.Time { return time.Now().Add(grace + time.Second) }
	s.remove("web", absent)
	if s.blobs() != 0 {
		t.Errorf("%d blobs are left after the grace", s.blobs())
	}
	if links, err := s.tree.links("web"); len(links) != 0 || err != nil {
		t.Errorf("links %v, %v are left after the grace", links, err)
	}
	s.open()
	if uploads() != 0 {
		t.Errorf("%d uploads are left after reopening", uploads())
	}
	img := image(t)
	s.push("web:1", img)
	s.pull("web:1")
}

func TestAnUnreadableManifestStopsCollection(t *testing.T) {
	s := serve(t)
	broken, other := image(t), image(t)
	s.push("web:broken", broken)
	s.push("web:other", other)
	d := strings.TrimPrefix(digestOf(t, broken), "sha256:")
	path := filepath.Join(s.dir, "docker/registry/v2/blobs/sha256", d[:2], d, "data")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := s.blobs()
	s.remove("web", digestOf(t, other))
	if got := s.blobs(); got != before {
		t.Errorf("%d blobs, want all %d", got, before)
	}
	if !strings.Contains(s.log.String(), "web@sha256:"+d) {
		t.Errorf("the log doesn't name the image:\n%s", s.log)
	}
	s.remove("web", digestOf(t, broken))
	if got := s.blobs(); got != 0 {
		t.Errorf("%d blobs are left", got)
	}
}

func TestMisuse(t *testing.T) {
	s := serve(t)
	d := digest.FromString("").String()
	for _, c := range []struct{ name, digest, want string }{
		{"Web!", d, "is not an image's name"},
		{"web", "", "is not an image's digest"},
		{"web", "latest", "is not an image's digest"},
		{"../web", d, "is not an image's name"},
	} {
		if _, err := s.Has(t.Context(), c.name, c.digest); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Has(%q, %q): %v", c.name, c.digest, err)
		}
		if err := s.Delete(t.Context(), c.name, c.digest); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Delete(%q, %q): %v", c.name, c.digest, err)
		}
	}
	img := image(t)
	s.push("web:1", img)
	if err := remote.Delete(s.ref("web@" + digestOf(t, img))); err == nil {
		t.Error("the API deletes images")
	}
}

// The library would log each refused request to the process's stderr.
func TestTheLibraryIsQuiet(t *testing.T) {
	var noise bytes.Buffer
	logrus.SetOutput(&noise)
	defer logrus.SetOutput(os.Stderr)
	s := serve(t)
	img := image(t)
	s.push("web:1", img)
	s.pull("web:1")
	if _, err := remote.Image(s.ref("web:2")); err == nil {
		t.Error("an absent tag was found")
	}
	res, err := http.Get("http://" + s.host + "/v2/web/manifests/NOT%20A%20TAG")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	s.remove("web", digestOf(t, img))
	s.open()
	if noise.Len() > 0 {
		t.Errorf("on stderr:\n%s", noise.String())
	}
}

func TestRoute(t *testing.T) {
	type parts struct{ Name, Kind, ID string }
	for path, want := range map[string]parts{
		"/v2/":                               {},
		"/v2/web/manifests/latest":           {"web", "manifests", "latest"},
		"/v2/a/blobs/b/blobs/sha256:00":      {"a/blobs/b", "blobs", "sha256:00"},
		"/v2/web/blobs/uploads/":             {"web", "blobs", "uploads/"},
		"/v2/web/blobs/uploads/4f2c":         {"web", "blobs", "uploads/4f2c"},
		"/v2/manifests/manifests/sha256:00":  {"manifests", "manifests", "sha256:00"},
		"/v2/web/tags/list":                  {},
		"/v2/blobs/x":                        {},
		"/v2/team/manifests/blobs/sha256:00": {"team/manifests", "blobs", "sha256:00"},
	} {
		var got parts
		got.Name, got.Kind, got.ID = route(path)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// What goes with an image is never referred to by what stays, and is never kept.
func TestNeedlessIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "manifests")
		id := func(i int) digest.Digest { return digest.FromString(string(rune('a' + i))) }
		g, kept := graph{}, map[digest.Digest]bool{}
		for i := range n {
			refs := []digest.Digest{digest.FromString("blob")}
			// Digests make cycles impossible: a manifest refers to earlier ones.
			for j := range i {
				if rapid.Bool().Draw(t, "refers") {
					refs = append(refs, id(j))
				}
			}
			g[id(i)], kept[id(i)] = refs, rapid.Bool().Draw(t, "kept")
		}
		root := id(rapid.IntRange(0, n-1).Draw(t, "root"))
		going := map[digest.Digest]bool{}
		for _, d := range g.needless(root, func(d digest.Digest) bool { return kept[d] }) {
			going[d] = true
		}
		for d := range going {
			if d != root && kept[d] {
				t.Fatalf("%s is kept, but goes", d)
			}
		}
		for parent, refs := range g {
			for _, d := range refs {
				if !going[parent] && going[d] {
					t.Fatalf("%s stays and refers to %s, which goes", parent, d)
				}
			}
		}
	})
}

// Pushes of images with a layer in common, each deleted again while others are on
// their way, lose nothing.
func TestPushesAndDeletionsTogether(t *testing.T) {
	s := serve(t)
	base := image(t)
	var group errgroup.Group
	for i := range 4 {
		repository := s.ref(fmt.Sprintf("team/web%d:1", i)).Context()
		group.Go(func() error {
			for range 5 {
				own, err := random.Layer(256, "application/vnd.docker.image.rootfs.diff.tar.gzip")
				if err != nil {
					return err
				}
				img, err := mutate.AppendLayers(base, own)
				if err != nil {
					return err
				}
				if err := remote.Push(repository.Tag("1"), img); err != nil {
					return fmt.Errorf("push: %w", err)
				}
				got, err := remote.Image(repository.Tag("1"))
				if err == nil {
					err = validate.Image(got)
				}
				if err != nil {
					return fmt.Errorf("pull: %w", err)
				}
				d, err := img.Digest()
				if err != nil {
					return err
				}
				if err := s.Delete(context.Background(), repository.RepositoryStr(), d.String()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if n := s.blobs(); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}
