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
// that does not run will read them when it starts.
func (r *Runtime) reload() error {
	at, err := url.Parse(r.socketURI)
	if err != nil {
		return err
	}
	connected, err := net.Dial("unix", at.Path)
	if err != nil {
		return nil //nolint:nilerr // it does not run
	}
	defer connected.Close() //nolint:errcheck // nothing was sent
	raw, err := connected.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if peerErr != nil {
		return peerErr
	}
	// Whoever listens is Podman, or systemd for it.
	name, err := os.ReadFile("/proc/" + strconv.Itoa(int(peer.Pid)) + "/comm")
	switch {
	case err != nil:
		return err
	case strings.TrimSpace(string(name)) == "podman":
		return unix.Kill(int(peer.Pid), unix.SIGHUP)
	case peer.Pid != 1:
		return fmt.Errorf("process %d, which listens on %s, is %s", peer.Pid, at.Path, bytes.TrimSpace(name))
	}
	if out, err := exec.Command("systemctl", "kill", "--kill-who=main", "--signal=HUP", "podman.service").CombinedOutput(); err != nil && !strings.Contains(string(out), "not loaded") {
		return fmt.Errorf("systemctl kill podman.service: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
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
