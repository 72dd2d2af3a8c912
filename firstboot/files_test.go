package firstboot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func seed() resources.NodeSeed {
	return resources.NodeSeed{ID: "abc", Name: "one", Cards: []resources.SeedCard{
		{MAC: "52:54:00:00:00:01", Address: "192.168.50.10/24", Gateway: "192.168.50.1", DNS: []string{"9.9.9.9"}},
	}}
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
	got := find(t, files(seed(), false), "/etc/systemd/network/10-skerry-0.network")
	want := "[Match]\nMACAddress=52:54:00:00:00:01\n\n[Network]\nAddress=192.168.50.10/24\nGateway=192.168.50.1\nDNS=9.9.9.9\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("network (-want +got):\n%s", diff)
	}
}

// cloud-init has the network's configuration from the same seed.
func TestCloudInitKeepsTheNetwork(t *testing.T) {
	for _, f := range files(seed(), true) {
		if strings.HasPrefix(f.path, "/etc/systemd/network") {
			t.Errorf("%s is written beside cloud-init", f.path)
		}
	}
}

// sshd offers the key that the endpoint pins, and no other.
func TestSSHOffersThePinnedKeyOnly(t *testing.T) {
	text := find(t, files(seed(), false), "/etc/ssh/sshd_config.d/10-skerry.conf")
	if strings.Count(text, "HostKey ") != 1 || !strings.Contains(text, "PasswordAuthentication no") {
		t.Errorf("sshd's configuration:\n%s", text)
	}
}

// The control plane and the agent need the data disk: on an empty directory
// they would begin anew.
func TestTheUnitsNeedTheDataDisk(t *testing.T) {
	for _, unit := range []string{"skerry-agent", "skerry-server"} {
		if text := find(t, files(seed(), false), "/etc/systemd/system/"+unit+".service"); !strings.Contains(text, "RequiresMountsFor="+Data+"\n") {
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
