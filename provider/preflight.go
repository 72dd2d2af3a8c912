package provider

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// probe asks a machine for all that decides whether it can be a node. It changes
// nothing there, and needs no root.
const probe = `export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C
has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/lib/podman/$1" ] || [ -x "/usr/libexec/podman/$1" ]; }
echo "time=$(date +%s.%N)"
if [ "$(id -u)" = 0 ]; then echo root=root; elif sudo -n true 2>/dev/null; then echo root=sudo; fi
echo "user=$(id -un)"
echo "arch=$(uname -m)"
echo "system=$(. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME")"
if [ -d /run/systemd/system ]; then echo systemd=yes; fi
echo "podman=$(podman --version 2>/dev/null | sed 's/.* //')"
for p in crun runc netavark aardvark-dns nft iptables; do if has $p; then echo "$p=yes"; fi; done
if [ -e /usr/lib/systemd/system/podman.socket ]; then echo podman.socket=yes; fi
echo "cgroups=$(stat -fc %T /sys/fs/cgroup 2>/dev/null)"
echo "free=$(df -Pk /var/lib | awk 'NR == 2 { print $4 }')"
taken() { awk '{ print $2, $4 }' /proc/net/$1 /proc/net/${1}6 2>/dev/null | grep -qi ":$(printf %04X $2) $3$"; }
for p in 5055 5056 5057 5058; do if taken tcp $p 0A; then echo "port$p=taken"; fi; done
for p in 5059 4789; do if taken udp $p 07; then echo "port$p=taken"; fi; done
if [ -e /run/skerry ] || [ -e /etc/systemd/system/skerry-agent.service ]; then echo skerry=yes; fi
`

// facts are what a probe said, by name. What is not so is absent.
type facts map[string]string

func readFacts(said string) facts {
	f := facts{}
	for line := range strings.Lines(said) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found && value != "" {
			f[name] = value
		}
	}
	return f
}

// What a machine has to have. Podman 4.3 is that of Debian 12, the oldest that
// skerry is tried with.
const (
	podmanMajor, podmanMinor = 4, 3
	leastDisk                = 1 * resources.GiB
	mostSkew                 = 2 * time.Second
)

// preflight returns all that keeps a machine from becoming a node, with what to
// do about it; nothing where it can. The probe was made between began and ended,
// by this machine's clock.
func preflight(f facts, carried func(arch string) error, began, ended time.Time) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if f["root"] == "" {
		add("user %s is neither root nor allowed sudo without a password: log in as root, or put `%s ALL=(ALL) NOPASSWD: ALL` into /etc/sudoers.d/skerry", f["user"], f["user"])
	}
	if f["systemd"] == "" {
		add("systemd does not run there, and skerry's agent is a unit of it: use a Debian machine that booted with systemd")
	}
	if arch, err := goArch(f["arch"]); err != nil {
		add("%v", err)
	} else if err := carried(arch); err != nil {
		add("%v", err)
	}
	missing := missingPackages(f)
	if version := f["podman"]; version != "" && olderPodman(version) {
		add("Podman %s is too old (%s): skerry needs %d.%d, which Debian 12 and later have", version, f["system"], podmanMajor, podmanMinor)
	}
	if len(missing) > 0 {
		add("packages are missing: run there `apt-get update && apt-get install -y %s`", strings.Join(missing, " "))
	}
	if f["cgroups"] != "cgroup2fs" {
		add("/sys/fs/cgroup is %s, and skerry needs cgroups of version 2: boot without systemd.unified_cgroup_hierarchy=0", first(f["cgroups"], "missing"))
	}
	if free, err := strconv.ParseInt(f["free"], 10, 64); err != nil || resources.Bytes(free)*resources.KiB < leastDisk {
		add("/var/lib has %s KiB free, and skerry needs %s for its data, besides your images: make room there", first(f["free"], "no"), leastDisk)
	}
	// Once skerry is there the ports are its own.
	if f["skerry"] == "" {
		for _, p := range []struct{ port, is string }{
			{"5055", "the cluster's registry"},
			{resources.ServerPort, "the API for nodes"},
			{resources.PeerPort, "the store's members"},
			{resources.AgentPort, "its agent"},
			{strconv.Itoa(resources.WireGuardPort), "WireGuard"},
			{strconv.Itoa(resources.VXLANPort), "VXLAN"},
		} {
			if f["port"+p.port] != "" {
				add("port %s is taken, and skerry needs it for %s: stop what listens there (`ss -lntup sport = :%s`)", p.port, p.is, p.port)
			}
		}
	}
	if off := skew(f["time"], began, ended); off > mostSkew {
		add("its clock is %s off this machine's: run there `apt-get install -y systemd-timesyncd`, or set it with timedatectl", off.Round(100*time.Millisecond))
	}
	return all
}

// missingPackages lists Debian's packages that a node lacks.
func missingPackages(f facts) []string {
	var missing []string
	for _, p := range []struct {
		name  string
		there bool
	}{
		{"podman", f["podman"] != "" && f["podman.socket"] != ""},
		{"crun", f["crun"] != "" || f["runc"] != ""},
		{"netavark", f["netavark"] != ""},
		{"aardvark-dns", f["aardvark-dns"] != ""},
		{"nftables", f["nft"] != ""},
		{"iptables", f["iptables"] != ""},
	} {
		if !p.there {
			missing = append(missing, p.name)
		}
	}
	return missing
}

func olderPodman(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false // one that nobody knows is tried
	}
	return major < podmanMajor || major == podmanMajor && minor < podmanMinor
}

// goArch gives the GOARCH of what uname -m says.
func goArch(machine string) (string, error) {
	switch machine {
	case "x86_64":
		return "amd64", nil
	case "aarch64":
		return "arm64", nil
	case "":
		return "", errors.New("it does not say which processor it has (uname -m)")
	}
	return "", fmt.Errorf("its processor is %s, and skerry runs on x86_64 and aarch64", machine)
}

// skew is how far the machine's clock is off for sure: the time that it said is
// of a moment between the two.
func skew(said string, began, ended time.Time) time.Duration {
	seconds, err := strconv.ParseFloat(said, 64)
	if err != nil {
		return 0
	}
	there := time.UnixMicro(int64(seconds * 1e6))
	switch {
	case there.Before(began):
		return began.Sub(there)
	case there.After(ended):
		return there.Sub(ended)
	default:
		return 0
	}
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
