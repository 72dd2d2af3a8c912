package podmanruntime

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// registriesConf says in the words of containers-registries.conf(5) how registries
// are reached; nil where there is nothing to say.
func registriesConf(all []resources.AssignedRegistry) []byte {
	insecure := map[string]bool{}
	for _, r := range all {
		insecure[r.Host] = r.Insecure
	}
	var b bytes.Buffer
	for _, r := range all {
		if len(r.Mirrors) == 0 && !r.Insecure {
			continue
		}
		fmt.Fprintf(&b, "\n[[registry]]\nprefix = %q\nlocation = %q\ninsecure = %t\n", r.Host, r.Host, r.Insecure)
		for _, mirror := range r.Mirrors {
			fmt.Fprintf(&b, "\n[[registry.mirror]]\nlocation = %q\ninsecure = %t\n", mirror, insecure[resources.MirrorHost(mirror)])
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return append([]byte("# skerry writes this file: change registries of the cluster instead.\n"), b.Bytes()...)
}

// PutRegistries makes Podman reach registries as is said, from a moment later on.
func (r *Runtime) PutRegistries(all []resources.AssignedRegistry) error {
	if r.RegistriesConf == "" {
		return nil
	}
	text := registriesConf(all)
	there, err := os.ReadFile(r.RegistriesConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("say how registries are reached: %w", err)
	}
	if bytes.Equal(there, text) {
		return nil
	}
	if text == nil {
		err = os.Remove(r.RegistriesConf)
	} else if err = os.MkdirAll(filepath.Dir(r.RegistriesConf), 0o755); err == nil {
		err = replaceFile(r.RegistriesConf, text)
	}
	if err != nil {
		return fmt.Errorf("say how registries are reached: %w", err)
	}
	if err := r.reload(); err != nil {
		return fmt.Errorf("let Podman read how registries are reached: %w", err)
	}
	return nil
}

// replaceFile writes a file that everybody may read.
func replaceFile(path string, text []byte) error {
	next := path + ".new" // Podman reads *.conf
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// reload makes the Podman service read its files again, which it does on SIGHUP. One
// that does not run reads them when it starts.
func (r *Runtime) reload() error {
	// Asked before the connection, which makes systemd start one that does not run:
	// that would be ended by a signal, until it has begun to wait for it.
	unit, unitErr := mainProcess("podman.service")
	listens, name, err := r.listener()
	switch {
	case err != nil || listens == 0:
		return err
	case name == "podman":
		return unix.Kill(listens, unix.SIGHUP)
	case listens != 1:
		return fmt.Errorf("process %d, which listens on %s, is %s", listens, r.socketURI, name)
	case unitErr != nil || unit == 0:
		return unitErr
	}
	return unix.Kill(unit, unix.SIGHUP)
}

// listener is the process that listens on Podman's socket, which may be systemd for
// it; 0 where none does.
func (r *Runtime) listener() (pid int, name string, err error) {
	at, err := url.Parse(r.socketURI)
	if err != nil {
		return 0, "", err
	}
	connected, err := net.Dial("unix", at.Path)
	if err != nil {
		return 0, "", nil // it does not run
	}
	defer connected.Close() //nolint:errcheck // nothing was sent
	socket, _ := connected.(*net.UnixConn)
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, "", err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, "", err
	}
	if peerErr != nil {
		return 0, "", peerErr
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(int(peer.Pid)) + "/comm")
	return int(peer.Pid), strings.TrimSpace(string(text)), err
}

// mainProcess is that of a systemd unit; 0 where it does not run.
func mainProcess(unit string) (int, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return 0, nil //nolint:nilerr // there is no systemd
	}
	out, err := exec.Command("systemctl", "show", "--property=MainPID", "--value", unit).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("systemctl show %s: %w: %s", unit, err, bytes.TrimSpace(out))
	}
	return strconv.Atoi(string(bytes.TrimSpace(out)))
}

// authFile writes logins as Podman reads them (containers-auth.json(5)), for the
// time of a pull.
func (r *Runtime) authFile(logins []resources.Login) (string, error) {
	type entry struct {
		Auth string `json:"auth"`
	}
	auths := map[string]entry{}
	for _, l := range logins {
		auths[l.Host] = entry{base64.StdEncoding.EncodeToString([]byte(l.Username + ":" + string(l.Password)))}
	}
	text, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		return "", fmt.Errorf("log in to registries: %w", err)
	}
	file, err := os.CreateTemp(r.Memory, ".auth-*.json") // of mode 0600
	if err != nil {
		return "", fmt.Errorf("log in to registries: %w", err)
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(file.Name()) //nolint:errcheck // it is of no use
		return "", fmt.Errorf("log in to registries: %w", err)
	}
	return file.Name(), nil
}
