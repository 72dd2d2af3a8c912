package libvirtnodes

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kdomanski/iso9660"

	"github.com/skerry-io/skerry/resources"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); go test -update writes it anew:\n%s", path, diff)
	}
}

func small() *Spec {
	return &Spec{ID: "0123456789abcdef", LoginKeys: []string{"ssh-ed25519 AAAA me"}, Node: resources.Node{
		Name: "one", Pool: "default", CPUs: 2, Memory: resources.GiB, Disk: 10 * resources.GiB,
	}}
}

func large() *Spec {
	s := small()
	s.Name, s.CPUs, s.Memory = "big", 8, 16*resources.GiB
	s.DataDisk = &resources.DataDisk{Size: 50 * resources.GiB}
	s.Labels = map[string]string{"zone": "a"}
	s.UserData = "#cloud-config\npackages: [htop]\n"
	s.Networks = []resources.Attachment{
		{Network: "lab", Address: "192.168.50.10/24", Gateway: "192.168.50.1", DNS: []string{"192.168.50.1", "9.9.9.9"}},
		{Bridge: "br0"},
	}
	return s
}

func TestDomainXML(t *testing.T) {
	for _, c := range []struct {
		file string
		m    machine
	}{
		{"small.xml", machine{spec: small(), domainType: "qemu", arch: "x86_64", brokenCX16: true, root: "/pool/one-root.qcow2", seed: "/pool/one-seed.iso", consoleLog: "/pool/one-console.log"}},
		{"large.xml", machine{spec: large(), domainType: "kvm", arch: "x86_64", root: "/pool/big-root.qcow2", data: "/pool/big-data.qcow2", seed: "/pool/big-seed.iso", consoleLog: "/pool/big-console.log", uuid: "5b1f2b1c-0d2c-4f5e-9f5c-0a1b2c3d4e5f"}},
		{"arm64.xml", machine{spec: small(), domainType: "kvm", arch: "aarch64", root: "/pool/one-root.qcow2", seed: "/pool/one-seed.iso", consoleLog: "/pool/one-console.log"}},
	} {
		text, err := domainXML(c.m)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, c.file, text+"\n")
	}
}

func TestSeedFiles(t *testing.T) {
	for _, c := range []struct {
		file, hostKey string
		spec          *Spec
	}{{"small.seed", "PRIVATE KEY\n", small()}, {"large.seed", "", large()}} {
		files, err := seedFiles(c.spec, c.hostKey)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, f := range files {
			all.WriteString("-- " + f.name + " --\n" + strings.ReplaceAll(string(f.content), "\r", ""))
		}
		golden(t, c.file, all.String())
	}
}

// The files are on the disk under the names that cloud-init and the node image
// look for.
func TestTheSeedDiskHoldsItsFiles(t *testing.T) {
	files, err := seedFiles(small(), "PRIVATE KEY\n")
	if err != nil {
		t.Fatal(err)
	}
	program := bytes.Repeat([]byte{1, 2, 3}, 1<<20)
	iso, err := seedISO(append(files, seedFile{"skerry", program}))
	if err != nil {
		t.Fatal(err)
	}
	disk, err := iso9660.OpenImage(bytes.NewReader(iso))
	if err != nil {
		t.Fatal(err)
	}
	if label, err := disk.Label(); err != nil || strings.TrimSpace(label) != "cidata" {
		t.Errorf("label %q, %v", label, err)
	}
	root, err := disk.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	there, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	for _, f := range there {
		sizes[f.Name()] = f.Size()
	}
	for _, name := range []string{"user-data", "meta-data", "network-config", "skerry.json", "skerry"} {
		if sizes[name] == 0 {
			t.Errorf("%s is not on the disk: %v", name, sizes)
		}
	}
	if sizes["skerry"] != int64(len(program)) {
		t.Errorf("the program has %d bytes on the disk, want %d", sizes["skerry"], len(program))
	}
}

// A node keeps its addresses for as long as it keeps its ID.
func TestMACsFollowTheID(t *testing.T) {
	if MAC("a", 0) == MAC("a", 1) || MAC("a", 0) == MAC("b", 0) {
		t.Error("the address of a card does not follow from the node's ID and the card's number")
	}
	if !strings.HasPrefix(MAC("a", 0), "52:54:00:") {
		t.Errorf("MAC %s is not of QEMU's", MAC("a", 0))
	}
}

func TestRecord(t *testing.T) {
	r := record{Version: 1, ID: "abc", Name: "one", State: ready, HostKey: "SHA256:x", Node: large().Node}
	text, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(text) != recordSize {
		t.Errorf("a record has %d bytes, want %d always", len(text), recordSize)
	}
	back, err := decodeRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Errorf("record (-written +read):\n%s", diff)
	}
	r.Node.UserData = strings.Repeat("x", recordSize)
	if _, err := r.encode(); err == nil || !strings.Contains(err.Error(), "user_data") {
		t.Errorf("a record that is too long: %v", err)
	}
	if _, err := decodeRecord([]byte(`{"version": 2}`)); err == nil {
		t.Error("the record of a newer version is read")
	}
}

func TestLastLines(t *testing.T) {
	got := lastLines("one\r\n\x1b[0mtwo\n\n  \nthree\x00\n", 2)
	if diff := cmp.Diff([]string{"[0mtwo", "three"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func FuzzParseImageHeader(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"), int64(4096))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		header, err := parseImageHeader(head, size)
		if err == nil && header.size <= 0 && size > 0 {
			t.Errorf("an image of %d bytes has a disk of %d", size, header.size)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(_ *testing.T, text []byte) { decodeRecord(text) }) //nolint:errcheck // it must not panic
}
