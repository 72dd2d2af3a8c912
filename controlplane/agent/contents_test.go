package agent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/resources"
)

// memory is a directory that is in memory, as every Linux has one.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "skerry-test-") //nolint:usetesting // that of t.TempDir may be on a disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // it is in memory
	return filepath.Join(dir, "secrets")
}

// guarded is a replica with a secret in a file and in its environment, and a config.
func guarded() (resources.Replica, resources.Assignment) {
	me, group := os.Geteuid(), os.Getegid()
	own := resources.FileMount{UID: &me, GID: &group}
	r := replica(resources.RestartAlways)
	r.Template.Env = map[string]string{"A": "b"}
	r.Template.Secrets = []resources.SecretMount{{Secret: "db", FileMount: own}, {Secret: "db", Env: "WORD"}}
	own.Path, own.Mode = "/etc/web.conf", "0640"
	r.Template.Configs = []resources.ConfigMount{{Config: "settings", FileMount: own}}
	r.Contents = resources.ContentNumbers{"secret/db": 3, "config/settings": 1}
	return r, resources.Assignment{Replicas: []resources.Replica{r}, Contents: []resources.Content{
		{Version: "config/settings/1", Value: []byte("a = 1")}, {Version: "secret/db/3", Value: []byte("pass-word")},
	}}
}

func TestAReplicaGetsItsSecrets(t *testing.T) {
	dir := memory(t)
	synctest.Test(t, func(t *testing.T) {
		r, said := guarded()
		f := newFake()
		l := run(t, f)
		l.contents.dir = dir
		l.assign(resources.Assignment{Replicas: []resources.Replica{r}})
		synctest.Wait()
		if status, _ := l.status(r.ID); !strings.Contains(status.Message, "give the replica secret/db/3: the control plane has not said what is in it") {
			t.Errorf("without its secret it is %+v", status)
		}
		l.assign(said)
		advance(5 * time.Second)
		expect(t, l, resources.ReplicaRunning)
		of := filepath.Join(dir, "web-0-x")
		want := []resources.HostMount{
			{Source: filepath.Join(of, "0-secret-db"), Target: "/run/secrets/db", ReadOnly: true},
			{Source: filepath.Join(of, "1-config-settings"), Target: "/etc/web.conf", ReadOnly: true},
		}
		if diff := cmp.Diff(want, f.made.Template.HostMounts); diff != "" {
			t.Errorf("mounts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]string{"A": "b", "WORD": "pass-word"}, f.made.Template.Env); diff != "" {
			t.Errorf("environment (-want +got):\n%s", diff)
		}
		for i, file := range []struct {
			text string
			mode os.FileMode
		}{{"pass-word", 0o400}, {"a = 1", 0o640}} {
			text, err := os.ReadFile(want[i].Source)
			about, statErr := os.Stat(want[i].Source)
			if err != nil || statErr != nil || string(text) != file.text || about.Mode() != file.mode {
				t.Errorf("%s: %q %v %v %v", want[i].Source, text, about, err, statErr)
			}
		}
		// After a reboot they are there before it is started again.
		if err := os.RemoveAll(of); err != nil {
			t.Fatal(err)
		}
		f.end("web-0-x", 1)
		advance(5 * time.Second)
		if text, err := os.ReadFile(want[0].Source); err != nil || string(text) != "pass-word" {
			t.Errorf("after another start: %q, %v", text, err)
		}
		l.assign(resources.Assignment{})
		advance(5 * time.Second)
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("of a replica that is gone there is %v, %v", left, err)
		}
	})
}

// What is on the disk says nothing to who lacks the node's key, and all to an agent
// that starts without a server.
func TestSecretsAreKeptForARestart(t *testing.T) {
	data := t.TempDir()
	if _, err := InitNode(data, resources.NodeFile{ID: "n1", Name: "n1"}); err != nil {
		t.Fatal(err)
	}
	start := func() *Agent {
		t.Helper()
		a, err := New(Config{Runtime: newFake(), Data: data, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	_, said := guarded()
	start().assign(said)
	kept, err := os.ReadFile(filepath.Join(data, assignmentsFile))
	if err != nil || bytes.Contains(kept, []byte("pass-word")) || bytes.Contains(kept, []byte("cGFzcy13b3Jk")) || !bytes.Contains(kept, []byte("secret/db/3")) {
		t.Errorf("on the disk is %s, %v", kept, err)
	}
	if about, err := os.Stat(filepath.Join(data, cacheKeyFile)); err != nil || about.Mode() != 0o600 {
		t.Errorf("the key: %v, %v", about, err)
	}
	// A control plane that can't say what is in them takes nothing away.
	again := start()
	again.loop.contents.follow(said)
	silent := said
	silent.Contents = nil
	again.assign(silent)
	known := <-start().loop.assigned
	said.Remembered = true
	if diff := cmp.Diff(said, known); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if err := os.Remove(filepath.Join(data, cacheKeyFile)); err != nil {
		t.Fatal(err)
	}
	if known := <-start().loop.assigned; len(known.Contents) != 0 || len(known.Replicas) != 1 {
		t.Errorf("without the key: %+v", known)
	}
}

func TestSecretsOfReplicasThatStartAtOnceAreInOnePlace(t *testing.T) {
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("mounts; needs root, and is left out by -short")
	}
	c := newContents(filepath.Join(t.TempDir(), "secrets"), slog.New(slog.DiscardHandler))
	var group errgroup.Group
	for range 16 {
		group.Go(c.inMemory)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if n := strings.Count(string(mounts), " "+c.dir+" "); err != nil || n > 1 {
		t.Errorf("it is mounted %d times: %v", n, err)
	}
	if err := c.leave(); err != nil {
		t.Error(err)
	}
}
