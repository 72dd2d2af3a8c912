package podmanruntime

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
)

func TestRegistriesConf(t *testing.T) {
	got := registriesConf([]resources.AssignedRegistry{
		{Host: "docker.io", Mirrors: []string{"mirror.lan:5000", "other.lan/docker"}},
		{Host: "mirror.lan:5000", Insecure: true, Username: "me", Password: "registry/mirror.lan:5000/1"},
		{Host: "private.lan", Username: "me", Password: "registry/private.lan/1"},
	})
	golden(t, filepath.Join("testdata", "registries.conf"), string(got))
	if got := registriesConf([]resources.AssignedRegistry{{Host: "private.lan"}}); got != nil {
		t.Errorf("without anything to say it is %q", got)
	}
}

// Without a Podman that runs, the file is there for when one does.
func TestRegistriesAreWrittenAndRemoved(t *testing.T) {
	dir := t.TempDir()
	r := New("unix://" + filepath.Join(dir, "podman.sock"))
	r.RegistriesConf = filepath.Join(dir, "registries.conf.d", "50-skerry.conf")
	for step, c := range []struct {
		all   []resources.AssignedRegistry
		there bool
	}{{nil, false}, {[]resources.AssignedRegistry{{Host: "a.lan", Insecure: true}}, true}, {[]resources.AssignedRegistry{{Host: "a.lan", Insecure: true}}, true}, {nil, false}} {
		if err := r.PutRegistries(c.all); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(r.RegistriesConf)
		if (err == nil) != c.there || string(text) != string(registriesConf(c.all)) {
			t.Errorf("in step %d the file is %q, %v", step, text, err)
		}
	}
}

func TestAuthFile(t *testing.T) {
	r := New("unix:///nowhere")
	r.Memory = t.TempDir()
	path, err := r.authFile([]resources.Login{{Host: "a.lan", Username: "me", Password: []byte("word")}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	about, statErr := os.Stat(path)
	if diff := cmp.Diff(`{"auths":{"a.lan":{"auth":"bWU6d29yZA=="}}}`, string(text)); diff != "" || err != nil || statErr != nil || about.Mode() != 0o600 {
		t.Errorf("%v %v %v (-want +got):\n%s", err, statErr, about.Mode(), diff)
	}
}

// What nobody finds at its own registry comes from a mirror, with the mirror's
// password, and keeps its name. Podman reads the settings while it runs.
func testRegistries(t *testing.T, n node) {
	const mirror = "127.0.0.1:6001"
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "pass-word" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	web.Listener = n.service.Listen(t, mirror)
	web.Start()
	t.Cleanup(web.Close)
	image, err := images.Web("mirrored", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(mirror+"/team/web:1", name.Insecure)
	if err == nil {
		err = remote.Write(ref, image, remote.WithTransport(n.service.Client().Transport), remote.WithAuth(&authn.Basic{Username: "me", Password: "pass-word"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	n.Memory, n.RegistriesConf = t.TempDir(), filepath.Join(n.service.RegistriesDir(), "50-skerry.conf")
	t.Cleanup(func() {
		if err := n.PutRegistries(nil); err != nil {
			t.Error(err)
		}
		n.Memory, n.RegistriesConf = "", ""
	})
	const wanted = "registry.nowhere.test/team/web:1"
	wantReason(t, n.Pull(t.Context(), wanted, digest.String(), resources.PullMissing), resources.ReasonImagePull)
	err = n.PutRegistries([]resources.AssignedRegistry{{Host: "registry.nowhere.test", Mirrors: []string{mirror}}, {Host: mirror, Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	refused := n.Pull(t.Context(), wanted, digest.String(), resources.PullMissing, resources.Login{Host: mirror, Username: "me", Password: []byte("wrong-word")})
	wantReason(t, refused, resources.ReasonImagePull)
	if strings.Contains(refused.Error(), "wrong-word") {
		t.Errorf("the error has the password: %v", refused)
	}
	for attempt := 0; ; attempt++ { // Podman reads the settings a moment later
		err := n.Pull(t.Context(), wanted, digest.String(), resources.PullMissing, resources.Login{Host: mirror, Username: "me", Password: []byte("pass-word")})
		if err == nil {
			break
		}
		if attempt == 10 {
			t.Fatal(err)
		}
	}
	id, err := n.ImageID(t.Context(), wanted, digest.String())
	if err != nil || id == "" {
		t.Errorf("the image has another name: %q, %v", id, err)
	}
	if err := n.RemoveImage(t.Context(), id); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(n.Memory); err != nil || len(left) > 0 {
		t.Errorf("the pulls have left %v, %v", left, err)
	}
}

// A secret is a file that is mounted where Podman has a directory in memory of its
// own, of a container whose file system is read-only.
func testSecretFile(t *testing.T, n node) {
	source := filepath.Join(t.TempDir(), "word")
	if err := os.WriteFile(source, []byte("pass-word"), 0o400); err != nil {
		t.Fatal(err)
	}
	id := n.create(t, "secret-0-aaaaaa", func(p *resources.Template) {
		p.ReadOnly = true
		p.HostMounts = []resources.HostMount{{Source: source, Target: "/run/secrets/db", ReadOnly: true}}
	})
	if _, err := n.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	code, said, err := n.Exec(t.Context(), id, []string{"/web", "-show", "/run/secrets/db"})
	if err != nil || code != 0 || strings.TrimSpace(said) != "pass-word" {
		t.Errorf("%d %q %v", code, said, err)
	}
	if code, said, err := n.Exec(t.Context(), id, []string{"/web", "-append", "/run/secrets/db"}); err != nil || code == 0 {
		t.Errorf("it can be written: %q %v", said, err)
	}
}
