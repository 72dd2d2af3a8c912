package libvirtnodes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"sync"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// Hypervisors holds one connection to each hypervisor in use. Its methods can
// be called from several goroutines.
type Hypervisors struct {
	log *slog.Logger

	mu    sync.Mutex // guards hosts
	hosts map[string]*Host
}

// New makes it. It connects to nothing yet.
func New(log *slog.Logger) *Hypervisors {
	return &Hypervisors{log: log, hosts: map[string]*Host{}}
}

// Host is one hypervisor.
type Host struct {
	URI  string
	log  *slog.Logger
	conn *libvirt.Connect
	// arch is libvirt's name of the processor: x86_64 or aarch64.
	arch string
	// version of QEMU: 1,000,000 times the major, 1,000 times the minor, and the
	// release. 0 where it is not known.
	version uint32
	// hardware is true where KVM works, not only opens.
	hardware bool

	mu    sync.Mutex // guards pools
	pools map[string]*sync.Mutex
	stops *stops
}

// events runs libvirt's event loop, once for the process.
var events = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return fmt.Errorf("start libvirt's event loop: %w", err)
	}
	go func() {
		for libvirt.EventRunDefaultImpl() == nil { //nolint:revive // it runs as long as the process
		}
	}()
	return nil
})

// Host connects to the hypervisor at the libvirt URI, or returns the connection
// that lives.
func (h *Hypervisors) Host(uri string) (*Host, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if host := h.hosts[uri]; host != nil {
		if alive, err := host.conn.IsAlive(); err == nil && alive {
			return host, nil
		}
		host.close()
		delete(h.hosts, uri)
	}
	if err := events(); err != nil {
		return nil, err
	}
	conn, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, explainConnect(uri, err)
	}
	host := &Host{URI: uri, log: h.log.With("hypervisor", uri), conn: conn, pools: map[string]*sync.Mutex{}}
	if err := host.look(); err != nil {
		conn.Close() //nolint:errcheck // it is of no use
		return nil, err
	}
	h.hosts[uri] = host
	return host, nil
}

// Close ends every connection.
func (h *Hypervisors) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for uri, host := range h.hosts {
		host.close()
		delete(h.hosts, uri)
	}
}

func (h *Host) close() {
	h.stops.close(h.conn)
	h.conn.Close() //nolint:errcheck // it carries nothing any more
}

// look finds out what the hypervisor can do.
func (h *Host) look() error {
	// A connection whose other end is silent breaks after 25 s.
	if err := h.conn.SetKeepAlive(5, 5); err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
		return fmt.Errorf("watch the connection to %s: %w", h.URI, err)
	}
	text, err := h.conn.GetCapabilities()
	if err != nil {
		return fmt.Errorf("ask %s what it can do: %w", h.URI, err)
	}
	var capabilities libvirtxml.Caps
	if err := capabilities.Unmarshal(text); err != nil {
		return fmt.Errorf("read what %s can do: %w", h.URI, err)
	}
	h.arch = capabilities.Host.CPU.Arch
	h.hardware = hasKVM(&capabilities) && h.hasExtension(&capabilities)
	if h.version, err = h.conn.GetVersion(); err != nil {
		h.log.Debug("the hypervisor does not tell its version", "err", err)
	}
	h.stops, err = watchStops(h.conn)
	return err
}

func hasKVM(capabilities *libvirtxml.Caps) bool {
	for _, guest := range capabilities.Guests {
		if guest.Arch.Name != capabilities.Host.CPU.Arch {
			continue
		}
		for _, domain := range guest.Arch.Domains {
			if domain.Type == "kvm" {
				return true
			}
		}
	}
	return false
}

// hasExtension is true where the processor has what KVM needs. A VM may have
// /dev/kvm without it; its guests hang.
func (h *Host) hasExtension(capabilities *libvirtxml.Caps) bool {
	if capabilities.Host.CPU.Arch != "x86_64" {
		return true
	}
	model := libvirtxml.CapsHostCPU{Arch: capabilities.Host.CPU.Arch, Model: capabilities.Host.CPU.Model, Vendor: capabilities.Host.CPU.Vendor, FeatureFlags: capabilities.Host.CPU.FeatureFlags}
	for _, feature := range model.FeatureFlags {
		if feature.Name == "vmx" || feature.Name == "svm" {
			return true
		}
	}
	// Some models have it built in, and don't list it.
	text, err := model.Marshal()
	if err != nil {
		return false
	}
	full, err := h.conn.BaselineCPU([]string{text}, libvirt.CONNECT_BASELINE_CPU_EXPAND_FEATURES)
	return err == nil && (strings.Contains(full, "'svm'") || strings.Contains(full, "'vmx'"))
}

// GOARCH is the architecture of the hypervisor's VMs.
func (h *Host) GOARCH() string {
	if h.arch == "aarch64" {
		return "arm64"
	}
	return "amd64"
}

// domainType chooses between kvm and qemu.
func (h *Host) domainType(virtualization string) string {
	switch {
	case virtualization == "kvm" || virtualization == "qemu":
		return virtualization
	case h.hardware:
		return "kvm"
	default:
		return "qemu"
	}
}

// lockPool lets one caller at a time change a pool: libvirt refuses some calls
// while another one runs. The function returned unlocks it.
func (h *Host) lockPool(name string) func() {
	h.mu.Lock()
	lock, found := h.pools[name]
	if !found {
		lock = &sync.Mutex{}
		h.pools[name] = lock
	}
	h.mu.Unlock()
	lock.Lock()
	return lock.Unlock
}

// explainConnect says what to do about a connection that failed.
func explainConnect(uri string, err error) error {
	advice := "check `hypervisor`, a libvirt URI such as qemu:///system or qemu+ssh://root@host/system"
	text := err.Error()
	switch {
	case strings.Contains(text, "Permission denied") || isCode(err, libvirt.ERR_AUTH_FAILED) || isCode(err, libvirt.ERR_AUTH_UNAVAILABLE):
		advice = fmt.Sprintf("%s may not manage VMs there: add the user to the group libvirt (sudo usermod -aG libvirt %[1]s), and log in again", userName())
	case strings.Contains(text, "No such file") || strings.Contains(text, "Connection refused"):
		advice = "libvirtd does not run there: install it (Debian: apt install libvirt-daemon-system) and start it (systemctl start libvirtd)"
	case strings.Contains(text, "libvirt.so") || strings.Contains(text, "dlopen"):
		advice = "libvirt's client library is missing on this machine: install it (Debian: apt install libvirt0)"
	}
	return fmt.Errorf("connect to hypervisor %s: %w; %s", uri, err, advice)
}

func userName() string {
	if current, err := user.Current(); err == nil {
		return current.Username
	}
	return os.Getenv("USER")
}

func isCode(err error, code libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == code
}

// stops tells when a domain of the host has stopped.
type stops struct {
	callback int

	mu      sync.Mutex // guards waiting
	waiting map[chan string]struct{}
}

func watchStops(conn *libvirt.Connect) (*stops, error) {
	s := &stops{waiting: map[chan string]struct{}{}}
	id, err := conn.DomainEventLifecycleRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, event *libvirt.DomainEventLifecycle) {
		if event.Event != libvirt.DOMAIN_EVENT_STOPPED {
			return
		}
		name, err := d.GetName()
		if err != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for listener := range s.waiting {
			select {
			case listener <- name:
			default:
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("watch the hypervisor's events: %w", err)
	}
	s.callback = id
	return s, nil
}

func (s *stops) close(conn *libvirt.Connect) {
	conn.DomainEventDeregister(s.callback) //nolint:errcheck // the connection ends
}

// listen returns a channel of the names of domains that stop.
func (s *stops) listen() (<-chan string, func()) {
	listener := make(chan string, 16)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[listener] = struct{}{}
	return listener, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiting, listener)
	}
}

// awaitStop returns when the domain is shut off.
func (h *Host) awaitStop(ctx context.Context, d *libvirt.Domain) error {
	name, err := d.GetName()
	if err != nil {
		return fmt.Errorf("wait until the machine stops: %w", err)
	}
	stopped, done := h.stops.listen()
	defer done()
	for {
		active, err := d.IsActive()
		if err != nil || !active {
			return err
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait until machine %s stops: %w", name, context.Cause(ctx))
			case who := <-stopped:
				waiting = who != name
			}
		}
	}
}
