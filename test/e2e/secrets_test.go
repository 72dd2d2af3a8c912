package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// A service on the second host that has a secret in a file and one in its
// environment, and two configs. Places: servers, workers, version of the secret
// db, the configs' content and source, archive, ID of the second node.
const secretsConfiguration = `
variable "db" {
  type      = string
  ephemeral = true
}
variable "token" {
  type      = string
  ephemeral = true
}
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [%[1]s]
  workers = [%[2]s]
}
resource "skerry_secret" "db" {
  cluster = skerry_cluster.home.endpoint
  name    = "db"
  value   = var.db
  version = %[3]d
}
resource "skerry_secret" "token" {
  cluster = skerry_cluster.home.endpoint
  name    = "token"
  value   = var.token
}
resource "skerry_config" "settings" {
  cluster = skerry_cluster.home.endpoint
  name    = "settings"
  content = %[4]q
}
resource "skerry_config" "file" {
  cluster = skerry_cluster.home.endpoint
  name    = "file"
  source  = %[5]q
}
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = %[6]q
}
resource "skerry_service" "web" {
  cluster   = skerry_cluster.home.endpoint
  name      = "web"
  image     = skerry_image.web.reference
  resources = { cpu = "50m", memory = "32MiB" }
  read_only = true
  placement = { constraints = ["node.id == %[7]s"] }
  secrets = [
    { secret = skerry_secret.db.name },
    { secret = skerry_secret.db.name, path = "/etc/web/password", mode = "0440", uid = 1000, gid = 2000 },
    { secret = skerry_secret.token.name, env = "TOKEN" },
  ]
  configs = [
    { config = skerry_config.settings.name },
    { config = skerry_config.file.name, path = "/etc/web/file" },
  ]
}
`

// secretsTest is what the steps of TestSecrets share.
type secretsTest struct {
	hosts        []*dev
	tf           *Terraform
	archive      string
	source       string
	version      int
	settings     string
	values       map[string]string // of the secrets, now
	past, onlyIn map[string]string // values that are nowhere in the clear, and those that Podman may have, with their names
	second       string
}

func word() string {
	var raw [20]byte
	rand.Read(raw[:])
	return "word-" + hex.EncodeToString(raw[:])
}

// set gives a secret another value.
func (s *secretsTest) set(name string) {
	s.values[name] = word()
	if name == "token" {
		s.onlyIn[s.values[name]] = "podman"
	} else {
		s.past[s.values[name]] = name
	}
}

// configure writes the configuration as it is now.
func (s *secretsTest) configure(t *testing.T) {
	t.Helper()
	s.tf.Configure(t, fmt.Sprintf(secretsConfiguration, testbed.Endpoints(s.hosts[0].Host), testbed.Endpoints(s.hosts[1].Host), s.version, s.settings, s.source, s.archive, s.second))
	s.tf.env = append(s.tf.env, "TF_VAR_db="+s.values["db"], "TF_VAR_token="+s.values["token"])
}

// inside gives a file of the one container of the service, as it sees it.
func (s *secretsTest) inside(t *testing.T, path string) string {
	t.Helper()
	var root string
	eventually(t, "one container runs", func() (string, bool) {
		programs := s.hosts[1].Podman.Programs(t)
		if len(programs) != 1 {
			return fmt.Sprint(programs), false
		}
		process := fmt.Sprintf("/proc/%d/", programs[0])
		root = process + "root"
		// It is the runtime's own at first, with the root of the host.
		program, err := os.Readlink(process + "exe")
		return fmt.Sprint(program, err), filepath.Base(program) == "web"
	})
	return filepath.Join(root, path)
}

func (s *secretsTest) reads(t *testing.T, path, want string, mode fs.FileMode, uid, gid uint32) {
	t.Helper()
	file := s.inside(t, path)
	text, err := os.ReadFile(file)
	if err != nil || string(text) != want {
		t.Errorf("%s has %q, %v; want %q", path, text, err, want)
		return
	}
	about, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	owner := about.Sys().(*syscall.Stat_t)
	if about.Mode().Perm() != mode || owner.Uid != uid || owner.Gid != gid {
		t.Errorf("%s is %v of %d:%d; want %v of %d:%d", path, about.Mode(), owner.Uid, owner.Gid, mode, uid, gid)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err == nil {
		t.Errorf("%s can be written", path)
	}
}

// check looks at all that the container has.
func (s *secretsTest) check(t *testing.T) {
	t.Helper()
	s.reads(t, "/run/secrets/db", s.values["db"], 0o400, 0, 0)
	s.reads(t, "/etc/web/password", s.values["db"], 0o440, 1000, 2000)
	s.reads(t, "/run/configs/settings", s.settings, 0o444, 0, 0)
	source, err := os.ReadFile(s.source)
	if err != nil {
		t.Fatal(err)
	}
	s.reads(t, "/etc/web/file", string(source), 0o444, 0, 0)
	environment, err := os.ReadFile(filepath.Dir(s.inside(t, "")) + "/environ")
	if err != nil || !bytes.Contains(environment, []byte("TOKEN="+s.values["token"]+"\x00")) {
		t.Errorf("the environment has no token: %v", err)
	}
}

// forms are how a value may be written: plain, in hexadecimal digits, and in base64
// wherever it begins.
func forms(value string) [][]byte {
	all := [][]byte{[]byte(value), []byte(hex.EncodeToString([]byte(value)))}
	for skip := range 3 {
		whole := (len(value) - skip) / 3 * 3
		all = append(all, []byte(base64.StdEncoding.EncodeToString([]byte(value[skip:skip+whole]))))
	}
	return all
}

// search looks for values in what is below a directory, but not in what is mounted
// there. It returns how many files it has read, and where it has found one.
func search(t *testing.T, dir string, values map[string]string) (files int, found []string) {
	t.Helper()
	device := func(about fs.FileInfo) uint64 { return about.Sys().(*syscall.Stat_t).Dev }
	root, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it has just been removed
		}
		about, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		if e.IsDir() && device(about) != device(root) {
			return fs.SkipDir
		}
		if !about.Mode().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		files++
		found = append(found, searchText(path, text, values)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, found
}

func searchText(where string, text []byte, values map[string]string) (found []string) {
	for value, name := range values {
		for _, form := range forms(value) {
			if bytes.Contains(text, form) {
				found = append(found, fmt.Sprintf("%s has a value of %s in the clear, as %s", where, name, form))
			}
		}
	}
	return found
}

// nowhere searches all places where the values could be.
func (s *secretsTest) nowhere(t *testing.T) {
	t.Helper()
	all := map[string]string{}
	maps.Copy(all, s.past)
	maps.Copy(all, s.onlyIn)
	plan := filepath.Join(s.tf.Dir, "saved.plan")
	s.tf.Run(t, "plan", "-out="+plan)
	shown, err := s.tf.Command(t.Context(), "show", "-json", plan).Output()
	if err != nil || !bytes.Contains(shown, []byte("skerry_secret")) {
		t.Fatalf("show the plan: %v", err)
	}
	found := searchText("the plan", shown, all)
	files := 0
	look := func(dir string, values map[string]string) (hits []string) {
		count, hits := search(t, dir, values)
		files += count
		return hits
	}
	found = append(found, look(s.tf.Dir, all)...)
	for i, h := range s.hosts {
		found = append(found, look(h.Dir, all)...)
		found = append(found, look(h.Podman.Dir(), s.past)...)
		// What is in the environment is there: so the search finds what there is.
		if hits := look(h.Podman.Dir(), s.onlyIn); (len(hits) > 0) != (i == 1) {
			t.Errorf("host %d: the environment is in %q", i, hits)
		}
		found = append(found, searchText("the log", h.Logs(t), all)...)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range processes {
		if line, err := os.ReadFile(path); err == nil {
			found = append(found, searchText(path, line, all)...)
		}
	}
	events, err := s.hosts[0].operate(t, "", "events")
	if err != nil || events == "" {
		t.Errorf("%v: %s", err, events)
	}
	found = append(found, searchText("the events", []byte(events), all)...)
	for _, one := range found {
		t.Error(one)
	}
	t.Logf("no value is in %d files, the plan, the logs, the events and the lines of %d processes", files, len(processes))
}

// What secrets and configs live through, on two hosts.
func TestSecrets(t *testing.T) {
	t.Parallel()
	s := &secretsTest{
		hosts: startHosts(t, 2), archive: images.Archive(t), source: filepath.Join(t.TempDir(), "file"), version: 1, settings: "greeting = hello\n",
		values: map[string]string{}, past: map[string]string{}, onlyIn: map[string]string{},
	}
	s.second = string(s.hosts[1].Node(t))
	if err := os.WriteFile(s.source, []byte("one\n\xff\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.set("db")
	s.set("token")
	s.tf = NewTerraform(t, bin, "")
	s.configure(t)
	t.Cleanup(func() { s.tf.Try(t, "destroy", "-auto-approve") }) //nolint:errcheck // the hosts go anyway
	s.tf.Apply(t)
	s.check(t)
	s.tf.Settled(t)
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if !t.Failed() {
			t.Run(name, func(t *testing.T) { f(t); s.check(t) })
		}
	}
	secrets := filepath.Join(s.hosts[1].Dir, "run", "secrets")
	directories := func(t *testing.T) []string {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(secrets, "web-*"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	step("the value is nowhere else", func(t *testing.T) { s.nowhere(t) })
	step("a new version rolls the service", func(t *testing.T) {
		before := directories(t)
		s.set("db")
		s.version = 2
		s.configure(t)
		if plan := s.tf.Run(t, "plan", "-no-color"); !strings.Contains(plan, "version") || !strings.Contains(plan, "1 -> 2") {
			t.Errorf("the plan does not show the version:\n%s", plan)
		}
		s.tf.Apply(t)
		eventually(t, "the files of the old replica are gone", func() (string, bool) {
			now := directories(t)
			return fmt.Sprint(now), len(now) == 1 && now[0] != before[0]
		})
		s.tf.Settled(t)
	})
	step("other content of a config rolls the service", func(t *testing.T) {
		before := directories(t)
		s.settings = "greeting = bye\n"
		if err := os.WriteFile(s.source, []byte("two\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.configure(t)
		if plan := s.tf.Run(t, "plan", "-no-color"); !strings.Contains(plan, "sha256") || !strings.Contains(plan, "bye") {
			t.Errorf("the plan does not show the configs:\n%s", plan)
		}
		s.tf.Apply(t)
		if now := directories(t); len(now) == 1 && now[0] == before[0] {
			t.Error("the replica is the same")
		}
		s.tf.Settled(t)
	})
	step("what is in use can't be destroyed", func(t *testing.T) {
		control := controlOf(t, s.hosts...)
		if err := control.DeleteSecret(t.Context(), "db"); err == nil || !strings.Contains(err.Error(), "while services use it: web") {
			t.Error(err)
		}
		if err := control.DeleteConfig(t.Context(), "file"); err == nil || !strings.Contains(err.Error(), "while services use it: web") {
			t.Error(err)
		}
		s.hosts[0].says(t, []string{"secrets", "ls"}, "db", "web")
		s.hosts[0].says(t, []string{"configs", "ls"}, "settings", "web")
		s.hosts[0].says(t, []string{"configs", "show", "settings"}, "greeting = bye")
	})
	step("the key is rotated", func(t *testing.T) {
		file := filepath.Join(s.hosts[0].Dir, "data", "pki", "sealing.json")
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s.hosts[0].says(t, []string{"secrets", "rotate-key"}, "values are sealed with the new key")
		after, err := os.ReadFile(file)
		if err != nil || bytes.Equal(before, after) || bytes.Count(after, []byte(`"secret"`)) != 1 {
			t.Errorf("the file of the keys: %v", err)
		}
		s.hosts[0].End(os.Kill)
		s.hosts[0].Start(t)
		s.tf.Settled(t)
	})
	step("the node boots without a server, and has its secrets", func(t *testing.T) {
		s.hosts[0].PowerOff(t)
		s.hosts[1].PowerOff(t)
		if _, err := os.Stat(secrets); !os.IsNotExist(err) {
			t.Errorf("the files outlive a power cut: %v", err)
		}
		s.hosts[1].PowerOn(t)
		s.check(t)
		s.hosts[0].PowerOn(t)
		s.tf.Settled(t)
	})
	step("the value is still nowhere else", func(t *testing.T) { s.nowhere(t) })
	if t.Failed() {
		return
	}
	s.tf.Destroy(t)
	if _, err := os.Stat(secrets); !os.IsNotExist(err) {
		t.Errorf("the files are left after the destroy: %v", err)
	}
}
