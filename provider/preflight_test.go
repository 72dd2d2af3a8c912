package provider

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var probed = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// good is what a Debian 12 with all packages says.
func good() facts {
	return readFacts(fmt.Sprintf("time=%d.25\n", probed.Unix()) + `root=root
user=root
arch=x86_64
system=Debian GNU/Linux 12 (bookworm)
systemd=yes
podman=4.3.1
crun=yes
netavark=yes
aardvark-dns=yes
nft=yes
iptables=yes
podman.socket=yes
cgroups=cgroup2fs
free=8000000
`)
}

func carriesAMD64(arch string) error {
	if arch != "amd64" {
		return errors.New("no program for " + arch)
	}
	return nil
}

func TestPreflight(t *testing.T) {
	for _, c := range []struct {
		name   string
		change facts // "" removes
		want   []string
	}{
		{"all is there", nil, nil},
		{"runc does as well", facts{"crun": "", "runc": "yes"}, nil},
		{"ports are skerry's own", facts{"skerry": "yes", "port5055": "taken"}, nil},
		{"sudo", facts{"root": "sudo", "user": "admin"}, nil},
		{"no root", facts{"root": "", "user": "admin"}, []string{"user admin is neither root", "NOPASSWD"}},
		{"a container", facts{"systemd": ""}, []string{"systemd does not run"}},
		{"not carried", facts{"arch": "aarch64"}, []string{"no program for arm64"}},
		{"another processor", facts{"arch": "riscv64"}, []string{"riscv64", "x86_64 and aarch64"}},
		{"Debian 11", facts{"podman": "3.0.1", "netavark": ""}, []string{"Podman 3.0.1 is too old", "apt-get install -y netavark`"}},
		{"nothing is installed", facts{"podman": "", "podman.socket": "", "crun": "", "netavark": "", "aardvark-dns": "", "nft": "", "iptables": ""}, []string{"apt-get install -y podman crun netavark aardvark-dns nftables iptables`"}},
		{"old cgroups", facts{"cgroups": "tmpfs"}, []string{"/sys/fs/cgroup is tmpfs", "version 2"}},
		{"a full disk", facts{"free": "1000"}, []string{"/var/lib has 1000 KiB free", "1GiB"}},
		{"a port is taken", facts{"port5056": "taken"}, []string{"port 5056 is taken", "API for nodes"}},
		{"a datagram port is taken", facts{"port4789": "taken"}, []string{"port 4789 is taken", "VXLAN"}},
		{"the clock is late", facts{"time": fmt.Sprint(probed.Unix() - 60)}, []string{"clock is 1m0s off", "timesyncd"}},
		{"the clock is fast", facts{"time": fmt.Sprint(probed.Unix() + 10)}, []string{"clock is 9s off"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := good()
			maps.Copy(f, c.change)
			got := preflight(f, carriesAMD64, probed, probed.Add(time.Second))
			if (len(got) == 0) != (c.want == nil) {
				t.Fatalf("%q", got)
			}
			for _, word := range c.want {
				if !strings.Contains(strings.Join(got, "\n"), word) {
					t.Errorf("%q is not in %q", word, got)
				}
			}
		})
	}
}

// All that is wrong is named at once.
func TestPreflightNamesEverything(t *testing.T) {
	if got := preflight(facts{}, carriesAMD64, probed, probed); len(got) != 6 {
		t.Errorf("%d reasons: %s", len(got), strings.Join(got, "\n"))
	}
}

// The probe runs with any sh, and says something of each kind.
func TestProbe(t *testing.T) {
	said, err := exec.Command("sh", "-eu", "-c", probe).Output()
	if err != nil {
		t.Fatal(err)
	}
	f := readFacts(string(said))
	for _, name := range []string{"time", "user", "arch", "free", "cgroups"} {
		if f[name] == "" {
			t.Errorf("it does not say %s: %s", name, said)
		}
	}
	if off := skew(f["time"], time.Now().Add(-time.Minute), time.Now()); off != 0 {
		t.Errorf("this machine's clock is %s off itself", off)
	}
}
