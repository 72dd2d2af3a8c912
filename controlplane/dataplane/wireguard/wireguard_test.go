package wireguard

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/skerry-io/skerry/resources"
)

// The key is made once, for root only, and one that can't be read is not replaced.
func TestLoadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "wireguard.key")
	first, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKey(path)
	if err != nil || again != first {
		t.Errorf("the key is another one after a restart: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key: %v, %v", info.Mode(), err)
	}
	const secret = "bm90IGEga2V5IGF0IGFsbA=="
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a broken key: %v", err)
	}
}

func peers(t *testing.T, keys ...byte) []resources.Peer {
	t.Helper()
	var all []resources.Peer
	for _, k := range keys {
		all = append(all, resources.Peer{
			Node: resources.NodeID(rune('a' + k)), Address: netip.AddrFrom4([4]byte{192, 168, 7, k}), PublicKey: wgtypes.Key{k}.String(),
			Subnets: []resources.PeerSubnet{{Network: "front", Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, k, 0}), 24)}},
		})
	}
	return all
}

func uapiOf(t *testing.T, keys ...byte) string {
	t.Helper()
	s, err := settingsOf(wgtypes.Key{9}, peers(t, keys...))
	if err != nil {
		t.Fatal(err)
	}
	return s.uapi()
}

// A change touches only the peers that differ, and leads to what is wanted.
func TestChange(t *testing.T) {
	one, two := uapiOf(t, 1), uapiOf(t, 1, 2)
	key := func(k byte) string { return strings.Repeat("0", 1) + string('0'+rune(k)) + strings.Repeat("0", 62) }
	added := "public_key=" + key(2) + "\nendpoint=192.168.7.2:5059\nreplace_allowed_ips=true\nallowed_ip=10.1.2.0/24\n"
	for _, c := range []struct{ name, from, to, want string }{
		{"nothing", two, two, ""},
		{"the first", "", one, one},
		{"one more", one, two, added},
		{"one less", two, one, "public_key=" + key(2) + "\nremove=true\n"},
		{"another address", two, strings.Replace(two, "192.168.7.2", "192.168.7.3", 1), strings.Replace(added, "192.168.7.2", "192.168.7.3", 1)},
		{"another key of the node", one, strings.Replace(one, "private_key=09", "private_key=08", 1), "private_key=08" + strings.Repeat("0", 62) + "\nlisten_port=5059\n"},
	} {
		if diff := cmp.Diff(c.want, change(c.from, c.to)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestAPeerWhoseKeyCanNotBeRead(t *testing.T) {
	all := peers(t, 1)
	all[0].PublicKey = "nonsense"
	if _, err := settingsOf(wgtypes.Key{9}, all); err == nil || !strings.Contains(err.Error(), "node") {
		t.Errorf("the error is %v", err)
	}
}

// Whatever was written before, a change leads to the settings that are wanted:
// each peer of them is set or was the same, and each other one is removed.
func FuzzChange(f *testing.F) {
	f.Add("", "private_key=1\npublic_key=a\nendpoint=b\n")
	f.Add("public_key=a\nx=1\npublic_key=b\n", "public_key=b\npublic_key=a\nx=1\n")
	f.Fuzz(func(t *testing.T, from, to string) {
		if !strings.HasSuffix(to, "\n") {
			to += "\n" // every line of what is written ends
		}
		said, before, after := sections(change(from, to)), sections(from), sections(to)
		for name, text := range after.text {
			if before.text[name] != text && !strings.Contains(said.text[name], strings.TrimSpace(text)) {
				t.Errorf("section %q is not set: %q", name, change(from, to))
			}
		}
		for name := range before.text {
			if _, stays := after.text[name]; !stays && name != "" && !strings.Contains(said.text[name], "remove=true") {
				t.Errorf("peer %q is not removed: %q", name, change(from, to))
			}
		}
	})
}
