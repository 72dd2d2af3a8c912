package rules

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// datagram is what one machine sends.
type datagram struct {
	from string
	// source that the sender takes; an address that it has unless it is spoofed.
	source, to string
}

// TestHidden sends datagrams that must not arrive, and one behind them that does:
// it is the first that is seen.
func TestHidden(t *testing.T) {
	tests := []struct {
		name string
		// target listens.
		target, listen string
		hidden         []datagram
		honest         datagram
		// before are lines of ip's words, by machine.
		before map[string][]string
	}{
		{
			name: "source of another replica, or of none", target: "web-3", listen: "10.40.32.3:99",
			hidden: []datagram{{"web-1", "10.40.32.4", "10.40.32.3:99"}, {"web-1", "10.41.32.2", "10.40.32.3:99"}, {"web-1", "192.168.50.9", "10.40.32.3:99"}},
			honest: datagram{"web-1", "10.40.32.2", "10.40.32.3:99"},
		},
		{
			name: "source of another replica, to another node", target: "web-2", listen: "10.40.33.2:99",
			hidden: []datagram{{"web-1", "10.40.33.9", "10.40.33.2:99"}, {"web-1", "192.168.50.9", "10.40.33.2:99"}},
			honest: datagram{"web-1", "10.40.32.2", "10.40.33.2:99"},
		},
		{
			name: "through WireGuard, source of no peer", target: "web-1", listen: "10.40.32.2:99",
			hidden: []datagram{{"node-b", "10.40.32.3", "10.40.32.2:99"}, {"node-b", "10.42.33.2", "10.40.32.2:99"}, {"node-b", "192.168.50.77", "10.40.32.2:99"}},
			honest: datagram{"node-b", "10.40.33.1", "10.40.32.2:99"},
		},
		{
			name: "through WireGuard, source of another network", target: "db-1", listen: "10.41.32.2:99",
			hidden: []datagram{{"node-b", "10.40.33.1", "10.41.32.2:99"}},
			honest: datagram{"node-b", "10.41.33.1", "10.41.32.2:99"},
		},
		{
			name: "through VXLAN, source of no peer or of an encrypted network", target: "lone-1", listen: "10.42.32.2:99",
			hidden: []datagram{{"node-b", "10.40.33.2", "10.42.32.2:99"}, {"node-b", "192.168.50.77", "10.42.32.2:99"}},
			honest: datagram{"node-b", "10.42.33.1", "10.42.32.2:99"},
		},
		{
			name: "from outside, source of a replica", target: "node-a", listen: "192.168.50.1:99",
			hidden: []datagram{{"outside", "10.40.32.3", "192.168.50.1:99"}},
			honest: datagram{"outside", "192.168.50.9", "192.168.50.1:99"},
		},
		{
			name: "the node's loopback", target: "node-a", listen: "127.0.0.1:99",
			hidden: []datagram{{"web-1", "10.40.32.2", "127.0.0.1:99"}},
			honest: datagram{"node-a", "127.0.0.1", "127.0.0.1:99"},
			before: map[string][]string{"web-1": {
				"route delete local 127.0.0.0/8 dev lo table local", "route delete local 127.0.0.1 dev lo table local",
				"route add 127.0.0.1 via 169.254.53.53 dev eth0 onlink",
			}},
		},
		{
			name: "the way out, by IPv6", target: "outside", listen: "[fd01::9]:99",
			hidden: []datagram{{"web-1", "fd00::2", "[fd01::9]:99"}},
			honest: datagram{"node-a", "fd01::1", "[fd01::9]:99"},
			before: map[string][]string{
				"outside": {"address add fd01::9/64 dev br0 nodad"},
				"node-a":  {"link set skr-web-1 address 02:00:00:00:00:01", "address add fd00::1/64 dev skr-web-1 nodad", "address add fd01::1/64 dev eth0 nodad"},
				"web-1": {
					"address add fd00::2/64 dev eth0 nodad", "route add fd01::/64 via fd00::1 dev eth0",
					"neighbour replace fd00::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
				},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for machine, lines := range tt.before {
				w.machines[machine].ip(t, lines...)
				w.machines[machine].set(t, "net/ipv4/conf/all/route_localnet=1", "net/ipv6/conf/all/forwarding=1")
			}
			// What a node of the cluster would not send.
			w.machines["node-b"].do(t, func() error { return w.walls["node-b"].Remove(t.Context()) })
			var target net.PacketConn
			w.machines[tt.target].do(t, func() (err error) {
				target, err = net.ListenPacket("udp", tt.listen)
				return err
			})
			defer target.Close() //nolint:errcheck // has been read
			for _, d := range tt.hidden {
				if strings.Contains(d.source, ".") {
					w.machines[d.from].ip(t, fmt.Sprintf("address replace %s/32 dev lo", d.source))
				}
				w.send(t, d)
			}
			w.send(t, tt.honest)
			if err := target.SetDeadline(time.Now().Add(deadline)); err != nil {
				t.Fatal(err)
			}
			_, from, err := target.ReadFrom(make([]byte, 64))
			if err != nil || from.(*net.UDPAddr).AddrPort().Addr().Unmap() != netip.MustParseAddr(tt.honest.source) {
				t.Errorf("a datagram from %v came through: %v", from, err)
			}
		})
	}
}

func (w *world) send(t *testing.T, d datagram) {
	t.Helper()
	w.machines[d.from].do(t, func() error {
		c, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(d.source)}}).Dial("udp", d.to)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // was written only
		_, err = c.Write([]byte("it is I\n"))
		return err
	})
}
