package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/skerry-io/skerry/resources"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream is a name server of the test, which counts what it is asked.
type upstream struct {
	addr  netip.AddrPort
	asked atomic.Int64
}

// startUpstream answers on loopback: big.example does not fit into a datagram,
// none.example is not there, and lame.example fails.
func startUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	u.addr = netip.MustParseAddrPort(packets.LocalAddr().String())
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		u.asked.Add(1)
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		head := dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
		count := 1
		switch name {
		case "big.example.":
			count = 200
		case "none.example.":
			m.Rcode, count = dns.RcodeNameError, 0
			m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 30}, Ns: "a.", Mbox: "b.", Minttl: 10}}
		case "lame.example.":
			m.Rcode, count = dns.RcodeServerFailure, 0
		}
		for i := range count {
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: net.IPv4(192, 0, 2, byte(i))})
		}
		if _, overUDP := w.RemoteAddr().(*net.UDPAddr); overUDP {
			m.Truncate(dns.MinMsgSize)
		}
		w.WriteMsg(m) //nolint:errcheck // the client may be gone
	})
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: connections, Handler: handler}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { s.ActivateAndServe(); close(ended) }() //nolint:errcheck // it ends with the test
		<-started
		t.Cleanup(func() { s.Shutdown(); <-ended }) //nolint:errcheck // it ends with the test
	}
	return u
}

// resolvConf names a server at a port, which the file's format does not have.
func forwarderTo(t *testing.T, servers ...string) *Forwarder {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewForwarder(path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f.servers, f.read = servers, info.ModTime()
	return f
}

// start runs a server with the test's networks, and gives its address.
func start(t *testing.T, f *Forwarder, n resources.NodeNetwork) string {
	t.Helper()
	s := &Server{Upstream: f, Log: slog.New(slog.DiscardHandler)}
	s.Put(NewZone(n))
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, packets, connections) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return packets.LocalAddr().String()
}

func ask(t *testing.T, network, server, name string, kind uint16) *dns.Msg {
	t.Helper()
	answer, _, err := (&dns.Client{Net: network, Timeout: 10 * time.Second}).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(name, kind), server)
	if err != nil {
		t.Fatalf("ask for %s over %s: %v", name, network, err)
	}
	return answer
}

// asNode asks like the node itself, whose address is no replica's.
func TestServe(t *testing.T) {
	u := startUpstream(t)
	server := start(t, forwarderTo(t, u.addr.String()), testNetwork())
	for _, network := range []string{"udp", "tcp"} {
		for _, c := range []struct {
			name  string
			kind  uint16
			rcode int
			count int
		}{
			{"web.front.skerry.internal.", dns.TypeA, dns.RcodeSuccess, 1},
			{"web.front.skerry.internal.", dns.TypeAAAA, dns.RcodeSuccess, 0},
			{"replicas.web.front.skerry.internal.", dns.TypeA, dns.RcodeSuccess, 2},
			{"none.front.skerry.internal.", dns.TypeA, dns.RcodeNameError, 0},
			{"example.com.", dns.TypeA, dns.RcodeSuccess, 1},
			{"none.example.", dns.TypeA, dns.RcodeNameError, 0},
			{"lame.example.", dns.TypeA, dns.RcodeServerFailure, 0},
		} {
			a := ask(t, network, server, c.name, c.kind)
			if a.Rcode != c.rcode || len(a.Answer) != c.count {
				t.Errorf("%s over %s: %s", c.name, network, a)
			}
			if own := dns.IsSubDomain("skerry.internal.", c.name); own && len(a.Answer) == 0 && (len(a.Ns) != 1 || a.Ns[0].Header().Ttl != ttl) {
				t.Errorf("%s over %s does not say for how long there is nothing: %s", c.name, network, a)
			}
		}
	}
}

// What does not fit into a datagram says so, and is whole over TCP, be it ours or
// another server's.
func TestBigAnswers(t *testing.T) {
	u := startUpstream(t)
	n := testNetwork()
	web := &n.Map.Services[3]
	web.Replicas = nil
	for i := range 500 {
		web.Replicas = append(web.Replicas, resources.MappedReplica{Slot: i, Address: netip.AddrFrom4([4]byte{10, 1, byte(64 + i/250), byte(i % 250)}), Ready: true})
	}
	server := start(t, forwarderTo(t, u.addr.String()), n)
	for name, want := range map[string]int{"replicas.web.front.skerry.internal.": 500, "big.example.": 200} {
		if a := ask(t, "udp", server, name, dns.TypeA); !a.Truncated || len(a.Answer) >= want {
			t.Errorf("%s over UDP has %d records, truncated is %v", name, len(a.Answer), a.Truncated)
		}
		if a := ask(t, "tcp", server, name, dns.TypeA); a.Truncated || len(a.Answer) != want {
			t.Errorf("%s over TCP has %d records, truncated is %v", name, len(a.Answer), a.Truncated)
		}
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	u := startUpstream(t)
	f := forwarderTo(t, u.addr.String())
	for _, name := range []string{"example.com.", "none.example."} {
		before := u.asked.Load()
		for range 3 {
			q := new(dns.Msg).SetQuestion(name, dns.TypeA)
			a, err := f.Ask(t.Context(), q)
			if err != nil || a.Id != q.Id {
				t.Fatalf("%v, %v", a, err)
			}
		}
		if asked := u.asked.Load() - before; asked != 1 {
			t.Errorf("%s was asked for %d times", name, asked)
		}
	}
	// Another type, and a failure, are others.
	before := u.asked.Load()
	if _, err := f.Ask(t.Context(), new(dns.Msg).SetQuestion("example.com.", dns.TypeTXT)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := f.Ask(t.Context(), new(dns.Msg).SetQuestion("lame.example.", dns.TypeA)); err == nil {
			t.Error("a failure is an answer")
		}
	}
	if asked := u.asked.Load() - before; asked != 1+2*rounds {
		t.Errorf("%d questions came", asked)
	}
}

// What is remembered ages, and is forgotten in time.
func TestRememberedAnswersAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewForwarder("")
		m := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 10}, A: net.IPv4(192, 0, 2, 1)}}
		f.keep("k", m, time.Now())
		time.Sleep(4 * time.Second) // virtual time
		if got := f.recall("k", time.Now()); got == nil || got.Answer[0].Header().Ttl != 6 {
			t.Errorf("after 4 of 10 s: %v", got)
		}
		time.Sleep(6 * time.Second) // virtual time
		if got := f.recall("k", time.Now()); got != nil {
			t.Errorf("after 10 of 10 s: %v", got)
		}
		for i := range 2 * maxKept {
			f.keep(fmt.Sprint(i), m, time.Now())
		}
		if len(f.kept) > maxKept {
			t.Errorf("%d answers are kept", len(f.kept))
		}
	})
}

// A name server that does not answer keeps nobody from the next one.
func TestTheNextServerIsAsked(t *testing.T) {
	u := startUpstream(t)
	f := forwarderTo(t, "127.0.0.1:1", u.addr.String())
	if _, err := f.Ask(t.Context(), new(dns.Msg).SetQuestion("example.com.", dns.TypeA)); err != nil {
		t.Error(err)
	}
}

func TestTheServersOfTheMachineAreFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	f := NewForwarder(path)
	if _, err := f.upstreams(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	for i, text := range []string{"nameserver 192.0.2.1\nnameserver 169.254.53.53\n", "nameserver 192.0.2.2\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(i+1), 0)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		got, err := f.upstreams()
		if want := fmt.Sprintf("[192.0.2.%d:53]", i+1); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
}

// A change of the file is answered at once; where it is broken or gone, what was
// there before holds.
func TestRunFollowsTheFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "network.json")
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := netip.MustParseAddrPort(free.LocalAddr().String())
	free.Close() //nolint:errcheck // only its number is wanted
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{File: file, Listen: listen, ResolvConf: "/dev/null", Log: slog.New(slog.DiscardHandler)})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	n := testNetwork()
	for _, virtual := range []string{"10.1.0.2", "10.1.0.9"} {
		n.Map.Services[3].VirtualIP = address(virtual)
		text, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, file, text)
		awaitAnswer(t, listen, virtual)
	}
	replace(t, file, []byte("{"))
	awaitAnswer(t, listen, "10.1.0.9")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	awaitAnswer(t, listen, "10.1.0.9")
}

func replace(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file+".next", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".next", file); err != nil {
		t.Fatal(err)
	}
}

// awaitAnswer asks until the answer is right.
func awaitAnswer(t *testing.T, server netip.AddrPort, want string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		question := new(dns.Msg).SetQuestion("web.front.skerry.internal.", dns.TypeA)
		a, _, err := (&dns.Client{Net: "tcp"}).ExchangeContext(t.Context(), question, server.String())
		if err == nil && len(a.Answer) == 1 && a.Answer[0].(*dns.A).A.String() == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the answer is %v, %v, want %s", a, err, want)
		}
	}
}

// Whatever comes, what goes out is a DNS message.
func FuzzReply(f *testing.F) {
	s := &Server{Upstream: failing{}, Log: slog.New(slog.DiscardHandler)}
	s.Put(NewZone(testNetwork()))
	for _, name := range []string{"web.", "replicas.web.front.skerry.internal.", "4.3.2.1.in-addr.arpa.", "."} {
		text, err := new(dns.Msg).SetQuestion(name, dns.TypeA).SetEdns0(4096, true).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		question := new(dns.Msg)
		if question.Unpack(text) != nil {
			return // miekg's server answers that itself
		}
		reply := s.reply(t.Context(), address("10.1.32.3"), question)
		reply.Truncate(dns.MinMsgSize)
		packed, err := reply.Pack()
		if err != nil {
			return // it echoes a question that can't be written either
		}
		if err := new(dns.Msg).Unpack(packed); err != nil {
			t.Errorf("%q is answered by what can't be read: %v", text, err)
		}
	})
}

type failing struct{}

func (failing) Ask(context.Context, *dns.Msg) (*dns.Msg, error) { return nil, errors.New("nobody") }
