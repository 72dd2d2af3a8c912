package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine is what the numbers were measured on.
type machine struct {
	Time   time.Time `json:"time"`
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Memory string    `json:"memory"`
	Kernel string    `json:"kernel"`
	OS     string    `json:"os"`
	// KVM is true where VMs run on the processor itself.
	KVM    bool   `json:"kvm"`
	Go     string `json:"go"`
	Podman string `json:"podman"`
	QEMU   string `json:"qemu"`
}

// thisMachine tells what it can; what is not known is empty.
func thisMachine() machine {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err == nil {
		kvm.Close() //nolint:errcheck // nothing was written
	}
	return machine{
		Time: time.Now().UTC(), CPU: field("/proc/cpuinfo", "model name", ":"), Cores: runtime.NumCPU(),
		Memory: field("/proc/meminfo", "MemTotal", ":"), Kernel: strings.TrimSpace(string(kernel)),
		OS: strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`), KVM: err == nil, Go: runtime.Version(),
		Podman: firstLine("podman", "--version"), QEMU: firstLine("qemu-system-"+qemuNames[runtime.GOARCH], "--version"),
	}
}

// qemuNames are QEMU's names of processors.
var qemuNames = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// field reads a line such as `key : value`.
func field(path, key, separator string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if name, value, found := strings.Cut(lines.Text(), separator); found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(program string, args ...string) string {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
