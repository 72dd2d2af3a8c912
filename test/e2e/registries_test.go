package e2e

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/skerry-io/skerry/test/images"
)

// Two services: one whose image is in a registry that asks for a password, and one
// whose registry nobody finds, and which a mirror has. Places: registries of the
// cluster, endpoint, and attributes of the first service.
const registriesConfiguration = `
variable "own" {
  type      = string
  ephemeral = true
}
variable "mirror" {
  type      = string
  ephemeral = true
}
resource "skerry_cluster" "home" {
  name       = "home"
  servers    = [%[2]q]
  registries = %[1]s
}
resource "skerry_service" "private" {
  cluster   = skerry_cluster.home.endpoint
  name      = "private"
  image     = "127.0.0.1:6000/team/web:1"
  resources = { cpu = "50m", memory = "32MiB" }
  %[3]s
}
`

const mirroredConfiguration = `
resource "skerry_service" "mirrored" {
  cluster   = skerry_cluster.home.endpoint
  name      = "mirrored"
  image     = "registry.nowhere.test/team/web:1"
  resources = { cpu = "50m", memory = "32MiB" }
}
`

// guardRegistry starts a registry with the web image on the host's loopback, which
// asks for the password of the user puller.
func guardRegistry(t *testing.T, d *dev, address, password string) {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, given, _ := r.BasicAuth(); user != "puller" || given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	web.Listener = d.Podman.Listen(t, address)
	web.Start()
	t.Cleanup(web.Close)
	image, err := images.Web("1", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(address+"/team/web:1", name.Insecure)
	if err == nil {
		err = remote.Write(ref, image, remote.WithTransport(d.Podman.Client().Transport), remote.WithAuth(&authn.Basic{Username: "puller", Password: password}))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Images come from registries that ask for a password, and from mirrors; the
// passwords are nowhere in the clear.
func TestRegistries(t *testing.T) {
	t.Parallel()
	d := startDev(t)
	own, mirror := word(), word()
	guardRegistry(t, d, "127.0.0.1:6000", own)
	guardRegistry(t, d, "127.0.0.1:6001", mirror)
	const plain = `{
    "127.0.0.1:6000" = { insecure = true }
  }`
	text := func(registries, service string) string {
		return fmt.Sprintf(registriesConfiguration, registries, d.Endpoint, service)
	}
	tf := NewTerraform(t, bin, text(plain, `update = { progress_deadline = "20s" }`), "TF_VAR_own="+own, "TF_VAR_mirror="+mirror)
	t.Cleanup(func() { tf.Try(t, "destroy", "-auto-approve") }) //nolint:errcheck // the host goes anyway
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if !t.Failed() {
			t.Run(name, f)
		}
	}
	step("without a password there is no image", func(t *testing.T) {
		if said := tf.ApplyFails(t); !strings.Contains(said, "ImagePullFailed") {
			t.Error(said)
		}
	})
	step("a service logs in", func(t *testing.T) {
		tf.Configure(t, text(plain, `registry_auth = { username = "puller", password = var.own }`))
		tf.Apply(t)
		if digest, _ := tf.Attribute(t, "skerry_service.private", "image_digest").(string); !strings.HasPrefix(digest, "sha256:") {
			t.Errorf("the server did not resolve the image: %q", digest)
		}
		tf.Settled(t)
	})
	conf := filepath.Join(d.Podman.RegistriesDir(), "skerry-cluster.conf")
	step("the cluster logs in, to a mirror too", func(t *testing.T) {
		tf.Configure(t, text(`{
    "127.0.0.1:6000"        = { insecure = true, username = "puller", password = var.own }
    "registry.nowhere.test" = { mirrors = ["127.0.0.1:6001"] }
    "127.0.0.1:6001"        = { insecure = true, username = "puller", password = var.mirror }
  }`, `env = { GREETING = "again" }`)+mirroredConfiguration)
		tf.Apply(t)
		for _, service := range []string{"private", "mirrored"} {
			if digest, _ := tf.Attribute(t, "skerry_service."+service, "image_digest").(string); !strings.HasPrefix(digest, "sha256:") {
				t.Errorf("the server did not resolve the image of %s: %q", service, digest)
			}
		}
		tf.Settled(t)
		if text, err := os.ReadFile(conf); err != nil || !strings.Contains(string(text), `location = "127.0.0.1:6001"`) {
			t.Errorf("%s, %v", text, err)
		}
	})
	step("the passwords are nowhere else", func(t *testing.T) {
		values := map[string]string{own: "own", mirror: "mirror", "puller:" + own: "own, as registries are told it", "puller:" + mirror: "mirror, as registries are told it"}
		var found []string
		for _, dir := range []string{tf.Dir, d.Dir, d.Podman.Dir()} {
			files, hits := search(t, dir, values)
			t.Logf("%d files in %s", files, dir)
			found = append(found, hits...)
		}
		for _, one := range append(found, searchText("the log", d.Logs(t), values)...) {
			t.Error(one)
		}
	})
	if t.Failed() {
		return
	}
	tf.Destroy(t)
	if _, err := os.Stat(conf); !os.IsNotExist(err) {
		t.Errorf("the settings of registries are left: %v", err)
	}
}
