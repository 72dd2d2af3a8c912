package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// ttl is how long an answer may be kept, in seconds: what has changed is to be
// seen within one.
const ttl = 1

// payload is the largest answer over UDP to who can take more than 512 bytes: what
// passes unbroken everywhere (https://www.dnsflagday.net/2020/).
const payload = 1232

// Upstream asks other name servers.
type Upstream interface {
	// Ask returns the answer to a question, which may be from memory. Its ID is the
	// question's.
	Ask(ctx context.Context, question *dns.Msg) (*dns.Msg, error)
}

// Server answers from the latest Zone.
type Server struct {
	Upstream Upstream
	Log      *slog.Logger
	zone     atomic.Pointer[Zone]
}

// Put replaces the zone.
func (s *Server) Put(z *Zone) { s.zone.Store(z) }

// Serve answers at an address, over UDP and TCP, until ctx ends. The node need not
// have the address yet.
func (s *Server) Serve(ctx context.Context, listen netip.AddrPort) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(err, set)
	}}
	packets, err := lc.ListenPacket(ctx, "udp", listen.String())
	if err != nil {
		return fmt.Errorf("answer names on %s: %w", listen, err)
	}
	// The kernel may have chosen the port: TCP has the same.
	connections, err := lc.Listen(ctx, "tcp", packets.LocalAddr().String())
	if err != nil {
		packets.Close() //nolint:errcheck // nobody was answered
		return fmt.Errorf("answer names on %s: %w", listen, err)
	}
	return s.serve(ctx, packets, connections)
}

func (s *Server) serve(ctx context.Context, packets net.PacketConn, connections net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) { s.answer(ctx, w, question) })
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: connections, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- server.ActivateAndServe() }()
		group.Go(func() error {
			select {
			case err := <-ended:
				return fmt.Errorf("answer names on %s: %w", packets.LocalAddr(), err)
			case <-started:
			}
			select {
			case err := <-ended:
				return fmt.Errorf("answer names on %s: %w", packets.LocalAddr(), err)
			case <-ctx.Done():
			}
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			server.ShutdownContext(bounded) //nolint:errcheck // what is not answered by then is asked again
			<-ended                         //nolint:errcheck // it was ended
			return nil
		})
	}
	return group.Wait()
}

func (s *Server) answer(ctx context.Context, w dns.ResponseWriter, question *dns.Msg) {
	reply := s.reply(ctx, addressOf(w.RemoteAddr()), question)
	size := dns.MaxMsgSize
	if _, overUDP := w.RemoteAddr().(*net.UDPAddr); overUDP {
		size = dns.MinMsgSize
		if o := question.IsEdns0(); o != nil {
			size = min(max(int(o.UDPSize()), size), payload)
		}
	}
	reply.Truncate(size)
	if err := w.WriteMsg(reply); err != nil {
		s.Log.Debug("a client does not take its answer", "client", w.RemoteAddr(), "err", err)
	}
}

func addressOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// reply answers a question of a client.
func (s *Server) reply(ctx context.Context, from netip.Addr, question *dns.Msg) *dns.Msg {
	if question.Opcode != dns.OpcodeQuery || len(question.Question) != 1 {
		return new(dns.Msg).SetRcode(question, dns.RcodeNotImplemented)
	}
	q := question.Question[0]
	zone := s.zone.Load()
	switch {
	case q.Qclass != dns.ClassINET:
		return new(dns.Msg).SetRcode(question, dns.RcodeRefused)
	case zone == nil:
		return new(dns.Msg).SetRcode(question, dns.RcodeServerFailure)
	}
	a := zone.Lookup(from, q.Name, q.Qtype)
	switch a.Verdict {
	case Found, Missing:
		return own(question, a)
	case Refused:
		return new(dns.Msg).SetRcode(question, dns.RcodeRefused)
	case Foreign:
	}
	reply, err := s.Upstream.Ask(ctx, question)
	if err != nil {
		s.Log.Debug("no name server answers", "name", q.Name, "err", err)
		return new(dns.Msg).SetRcode(question, dns.RcodeServerFailure)
	}
	return reply
}

// own makes the message of an answer that is the zone's.
func own(question *dns.Msg, a Answer) *dns.Msg {
	m := new(dns.Msg).SetReply(question)
	m.Authoritative, m.RecursionAvailable = true, true
	if o := question.IsEdns0(); o != nil {
		m.SetEdns0(payload, o.Do())
	}
	q := question.Question[0]
	head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
	for _, address := range a.Addresses {
		m.Answer = append(m.Answer, &dns.A{Hdr: head, A: address.AsSlice()})
	}
	// Who takes the first one only is not always led to the same.
	rand.Shuffle(len(m.Answer), func(i, j int) { m.Answer[i], m.Answer[j] = m.Answer[j], m.Answer[i] }) //nolint:gosec // nothing secret
	if a.Name != "" {
		m.Answer = append(m.Answer, &dns.PTR{Hdr: head, Ptr: dns.Fqdn(a.Name)})
	}
	if a.Verdict == Missing {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		// How long that may be kept (RFC 2308).
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: dns.Fqdn(resources.DomainName), Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
			Ns:  dns.Fqdn(resources.DomainName), Mbox: dns.Fqdn("hostmaster." + resources.DomainName),
			Serial: 1, Refresh: ttl, Retry: ttl, Expire: ttl, Minttl: ttl,
		}}
	}
	return m
}
