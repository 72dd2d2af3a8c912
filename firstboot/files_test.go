package firstboot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/resources"
)

func seed() resources.NodeSeed {
	return resources.NodeSeed{ID: "abc", Name: "one", Cards: []resources.SeedCard{
		{MAC: "52:54:00:00:00:01", Address: "192.168.50.10/24", Gateway: "192.168.50.1", DNS: []string{"9.9.9.9"}},
	}}
}

func configuration(t *testing.T, cloudInit bool) []file {
	t.Helper()
	all, err := files(seed(), cloudInit)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func find(t *testing.T, all []file, path string) string {
	t.Helper()
	for _, f := range all {
		if f.path == path {
			return f.content
		}
	}
	t.Fatalf("%s is not written", path)
	return ""
}

func TestAStaticAddressIsConfigured(t *testing.T) {
	got := find(t, configuration(t, false), "/etc/systemd/network/10-skerry-0.network")
	want := "[Match]\nMACAddress=52:54:00:00:00:01\n\n[Network]\nAddress=192.168.50.10/24\nGateway=192.168.50.1\nDNS=9.9.9.9\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("network (-want +got):\n%s", diff)
	}
}

// cloud-init has the network's configuration from the same seed.
func TestCloudInitKeepsTheNetwork(t *testing.T) {
	for _, f := range configuration(t, true) {
		if strings.HasPrefix(f.path, "/etc/systemd/network") {
			t.Errorf("%s is written beside cloud-init", f.path)
		}
	}
}

// sshd offers the key that the endpoint pins, and no other.
func TestSSHOffersThePinnedKeyOnly(t *testing.T) {
	text := find(t, configuration(t, false), "/etc/ssh/sshd_config.d/10-skerry.conf")
	if strings.Count(text, "HostKey ") != 1 || !strings.Contains(text, "PasswordAuthentication no") {
		t.Errorf("sshd's configuration:\n%s", text)
	}
}

// The control plane and the agent need the data disk: on an empty directory
// they would begin anew.
func TestTheUnitsNeedTheDataDisk(t *testing.T) {
	for _, unit := range []string{"skerry-agent", "skerry-server"} {
		if text := find(t, configuration(t, false), "/etc/systemd/system/"+unit+".service"); !strings.Contains(text, "RequiresMountsFor="+Data+"\n") {
			t.Errorf("%s starts without its data", unit)
		}
	}
}

// sshd takes no keys from a file or a directory that others may write to.
func TestLoginKeysAreTheOwnersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".ssh", "authorized_keys")
	if err := takeLoginKeys(path, []string{"ssh-ed25519 A", "ssh-ed25519 B"}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "ssh-ed25519 A\nssh-ed25519 B\n" {
		t.Errorf("the keys are %q, %v", got, err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has not mode %o: %v", name, want, err)
		}
	}
}

func TestReadSeedRefusesWhatIsNoSeed(t *testing.T) {
	if _, err := readSeed(t.TempDir()); err == nil {
		t.Error("an empty directory is taken for a seed")
	}
}

// The files of the tree name what the program knows by constants.
func TestTheTreeFitsTheProgram(t *testing.T) {
	all := configuration(t, false)
	for path, words := range map[string][]string{
		"/etc/systemd/system/skerry-agent.service":      {"ExecStart=" + program + " agent\n", "ConditionPathExists=" + program + "\n"},
		"/etc/systemd/system/skerry-server.service":     {"ExecStart=" + program + " server\n"},
		"/etc/systemd/system/skerry-dns.service":        {"ExecStart=" + program + " dns --dir /run/skerry/network\n"},
		"/etc/systemd/system/skerry-tunnel.service":     {"ExecStart=" + program + " tunnel --dir /run/skerry/network\n"},
		"/etc/containers/registries.conf.d/skerry.conf": {`prefix = "` + resources.Registry + `"`, `location = "` + agent.RegistryAddress + `"`},
		"/etc/ssh/sshd_config.d/10-skerry.conf":         {"HostKey " + hostKey + "\n"},
	} {
		for _, word := range words {
			if text := find(t, all, path); !strings.Contains(text, word) {
				t.Errorf("%s does not say %q:\n%s", path, word, text)
			}
		}
	}
}

// A file that is there as it should be is no news for systemd.
func TestWriteFileTellsWhatIsNew(t *testing.T) {
	f := file{filepath.Join(t.TempDir(), "deep", "unit"), "text"}
	for i, want := range []bool{true, false} {
		if written, err := writeFile(f); written != want || err != nil {
			t.Errorf("write %d: %v, %v", i, written, err)
		}
	}
}

// The program is one of the seed at first, and a copy in the end: at once where
// there is no second first boot.
func TestTheProgramOutlivesItsSeed(t *testing.T) {
	for _, copyNow := range []bool{false, true} {
		dir := t.TempDir()
		from, to := filepath.Join(dir, "seed"), filepath.Join(dir, "bin", "skerry")
		if err := os.WriteFile(from, []byte("program"), 0o755); err != nil {
			t.Fatal(err)
		}
		// The second time, the first boot was cut off before it was done.
		for range 2 {
			if err := link(from, to, copyNow); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(to); err != nil || info.Mode().IsRegular() != copyNow {
				t.Errorf("copyNow %v: %v, %v", copyNow, info.Mode(), err)
			}
			if err := install(to); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(from); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(to)
		if content, readErr := os.ReadFile(to); err != nil || readErr != nil || string(content) != "program" || info.Mode().Perm() != 0o755 {
			t.Errorf("the program is %q, %v, %v", content, err, readErr)
		}
	}
}

// How people log in to a machine that was there already, and what its kernel
// does, is not skerry's.
func TestAGuestKeepsItsOwn(t *testing.T) {
	all, err := guestFiles()
	if err != nil {
		t.Fatal(err)
	}
	find(t, all, "/etc/systemd/system/skerry-agent.service")
	for _, f := range all {
		if strings.HasPrefix(f.path, "/etc/ssh") || strings.HasPrefix(f.path, "/etc/sysctl.d") {
			t.Errorf("%s is written to a machine that was there already", f.path)
		}
	}
}
