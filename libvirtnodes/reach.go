package libvirtnodes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/skerry-io/skerry/resources"
)

// addressStep is how often the hypervisor is asked for an address: libvirt has
// no event for a lease.
const addressStep = 500 * time.Millisecond

// Addresses returns the addresses of a node's cards, in their order, once there
// is at least one. When ctx ends first, the error says who was asked and what
// each said.
func (h *Host) Addresses(ctx context.Context, s *Spec) ([]string, error) {
	tick := time.NewTicker(addressStep)
	defer tick.Stop()
	for {
		found, answers, err := h.lookForAddresses(s)
		if err != nil || len(found) > 0 {
			return found, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for an address of node %s: %w; %s", s.Name, context.Cause(ctx), strings.Join(answers, "; "))
		case <-tick.C:
		}
	}
}

// AddressesNow returns what Addresses would, without waiting; nothing where
// there is none.
func (h *Host) AddressesNow(s *Spec) []string {
	found, _, err := h.lookForAddresses(s)
	if err != nil {
		return nil
	}
	return found
}

func (h *Host) lookForAddresses(s *Spec) (found, answers []string, err error) {
	d, err := h.conn.LookupDomainByName(s.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("find machine %s: %w", s.Name, err)
	}
	defer d.Free() //nolint:errcheck // it only gives memory back
	active, err := d.IsActive()
	if err != nil {
		return nil, nil, fmt.Errorf("look at machine %s: %w", s.Name, err)
	}
	if !active {
		return nil, nil, fmt.Errorf("machine %s has stopped while it was waited for", s.Name)
	}
	byMAC := map[string]string{}
	for _, source := range []struct {
		name string
		from libvirt.DomainInterfaceAddressesSource
	}{
		{"DHCP leases", libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE},
		{"guest agent", libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT},
		{"ARP table", libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_ARP},
	} {
		cards, err := d.ListAllInterfaceAddresses(source.from)
		if err != nil {
			answers = append(answers, source.name+": "+message(err))
			continue
		}
		answers = append(answers, source.name+": no address")
		for _, card := range cards {
			if byMAC[card.Hwaddr] == "" {
				byMAC[card.Hwaddr] = firstIPv4(card.Addrs)
			}
		}
	}
	for i, card := range s.cards() {
		address, _, _ := strings.Cut(card.Address, "/")
		if address == "" {
			address = byMAC[MAC(s.ID, i)]
		}
		if address != "" {
			found = append(found, address)
		}
	}
	return found, answers, nil
}

func firstIPv4(all []libvirt.DomainIPAddress) string {
	for _, address := range all {
		if ip, err := netip.ParseAddr(address.Addr); err == nil && ip.Is4() && ip.IsGlobalUnicast() {
			return ip.String()
		}
	}
	return ""
}

func message(err error) string {
	if e, ok := errors.AsType[libvirt.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

// consoleTail is how much of the console's log is read, in bytes.
const consoleTail = 16 << 10

// Console returns the last lines of the node's serial console, or what keeps it
// from being read.
func (h *Host) Console(poolName, name string, lines int) []string {
	p, err := h.openPool(poolName)
	if err != nil {
		return []string{"(the console's log can't be read: " + err.Error() + ")"}
	}
	defer p.free()
	text, err := p.read(consoleLog(name), consoleTail)
	if err != nil {
		return []string{"(the console's log can't be read: " + err.Error() + ")"}
	}
	return lastLines(string(text), lines)
}

// lastLines gives the last lines that hold anything to read.
func lastLines(text string, n int) []string {
	var kept []string
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r", "\n"), "\n") {
		line = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == '�' {
				return -1
			}
			return r
		}, line)
		if strings.TrimSpace(line) != "" {
			kept = append(kept, line)
		}
	}
	return kept[max(len(kept)-n, 0):]
}

// checkNetworks refuses networks that are not there, or not active.
func (h *Host) checkNetworks(s *Spec) error {
	for i, card := range s.cards() {
		if card.Network == "" {
			continue
		}
		network, err := h.conn.LookupNetworkByName(card.Network)
		if isCode(err, libvirt.ERR_NO_NETWORK) {
			return resources.Invalid(fmt.Sprintf("networks[%d].network", i), "hypervisor %s has no network %q: make it (virsh net-define), or name another one (virsh net-list --all)", h.URI, card.Network)
		}
		if err != nil {
			return fmt.Errorf("find network %s: %w", card.Network, err)
		}
		active, err := network.IsActive()
		network.Free() //nolint:errcheck // it only gives memory back
		if err != nil {
			return fmt.Errorf("look at network %s: %w", card.Network, err)
		}
		if !active {
			return resources.Invalid(fmt.Sprintf("networks[%d].network", i), "network %q of hypervisor %s is not active: start it with virsh net-start %[1]s", card.Network, h.URI)
		}
	}
	return nil
}

// Endpoint gives the endpoint of a node's agent.
func (h *Host) Endpoint(vm *VM, address, bastion string) resources.Endpoint {
	return resources.Endpoint{
		Host: address, User: "root", Socket: resources.AgentSocket, Node: vm.ID, HostKey: vm.HostKey,
		Bastion: bastion, Hypervisor: h.URI,
	}
}
