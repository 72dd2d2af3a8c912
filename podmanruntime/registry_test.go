package podmanruntime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
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
