package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"

	"github.com/skerry-io/skerry/resources"
)

const (
	// patience is how long one name server may take, and rounds how often all are
	// asked: what glibc's resolver gives them, in all (resolv.conf(5)), is more than
	// most programs wait.
	patience = 2 * time.Second
	rounds   = 2
	// crowd is how many questions are on their way at once.
	crowd = 256
	// maxKept is how many answers are remembered, and longest and shortest for how
	// long, whatever they say themselves.
	maxKept  = 4096
	longest  = 5 * time.Minute
	shortest = time.Second
)

// Forwarder asks the name servers of the machine, and remembers what they said
// for as long as they allow.
type Forwarder struct {
	// ResolvConf is the file that names them; it is read again when it has changed.
	ResolvConf string

	places chan struct{}
	asked  singleflight.Group

	mu      sync.Mutex // guards all below
	kept    map[string]kept
	servers []string
	read    time.Time // the file's time when servers were read
}

// kept is an answer, and from when to when it holds.
type kept struct {
	answer      *dns.Msg
	from, until time.Time
}

// NewForwarder makes a Forwarder.
func NewForwarder(resolvConf string) *Forwarder {
	return &Forwarder{ResolvConf: resolvConf, places: make(chan struct{}, crowd), kept: map[string]kept{}}
}

// Ask returns the answer to a question, which may be from memory. Those who ask
// the same at the same time are answered with one.
func (f *Forwarder) Ask(ctx context.Context, question *dns.Msg) (*dns.Msg, error) {
	name := keyOf(question)
	if known := f.recall(name, time.Now()); known != nil {
		return answering(question, known), nil
	}
	got, err, _ := f.asked.Do(name, func() (any, error) {
		select {
		case f.places <- struct{}{}:
			defer func() { <-f.places }()
		default:
			return nil, fmt.Errorf("%d questions are on their way already", crowd)
		}
		answer, err := f.exchange(ctx, question)
		if err == nil {
			f.keep(name, answer, time.Now())
		}
		return answer, err
	})
	if err != nil {
		return nil, err
	}
	return answering(question, got.(*dns.Msg)), nil
}

// keyOf tells questions apart whose answers differ.
func keyOf(m *dns.Msg) string {
	q := m.Question[0]
	secure := false
	if o := m.IsEdns0(); o != nil {
		secure = o.Do()
	}
	return fmt.Sprint(strings.ToLower(q.Name), q.Qtype, secure, m.CheckingDisabled)
}

// answering makes an answer one to a question.
func answering(question, answer *dns.Msg) *dns.Msg {
	a := answer.Copy()
	a.Id, a.Question = question.Id, question.Question
	// Who did not ask with EDNS does not understand it.
	if question.IsEdns0() == nil {
		a.Extra = slices.DeleteFunc(a.Extra, func(r dns.RR) bool { return r.Header().Rrtype == dns.TypeOPT })
	}
	return a
}

// exchange asks one server after the other until one answers.
func (f *Forwarder) exchange(ctx context.Context, question *dns.Msg) (*dns.Msg, error) {
	servers, err := f.upstreams()
	if err != nil {
		return nil, err
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("%s names no other name server", f.ResolvConf)
	}
	ask := question.Copy()
	ask.Id = dns.Id()
	var errs []error
	for range rounds {
		for _, server := range servers {
			answer, err := askOne(ctx, server, ask)
			if err == nil && answer.Rcode != dns.RcodeServerFailure && answer.Rcode != dns.RcodeRefused {
				return answer, nil
			}
			if err == nil {
				err = errors.New(dns.RcodeToString[answer.Rcode])
			}
			errs = append(errs, fmt.Errorf("ask %s: %w", server, err))
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		}
	}
	return nil, errors.Join(errs...)
}

// askOne asks over UDP, and over TCP what does not fit there.
func askOne(ctx context.Context, server string, question *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, _, err := (&dns.Client{Net: "udp", UDPSize: payload}).ExchangeContext(ctx, question, server)
	if err == nil && answer.Truncated {
		answer, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, question, server)
	}
	return answer, err
}

// upstreams are the machine's name servers, as host:port.
func (f *Forwarder) upstreams() ([]string, error) {
	info, err := os.Stat(f.ResolvConf)
	if err != nil {
		return nil, fmt.Errorf("find the machine's name servers: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if info.ModTime().Equal(f.read) {
		return f.servers, nil
	}
	config, err := dns.ClientConfigFromFile(f.ResolvConf)
	if err != nil {
		return nil, fmt.Errorf("find the machine's name servers: %w", err)
	}
	f.servers = nil
	for _, s := range config.Servers {
		if s != resources.NodeResolver.String() {
			f.servers = append(f.servers, net.JoinHostPort(s, config.Port))
		}
	}
	f.read = info.ModTime()
	clear(f.kept)
	return f.servers, nil
}

// recall gives a remembered answer that holds still, with what is left of its
// time.
func (f *Forwarder) recall(name string, now time.Time) *dns.Msg {
	f.mu.Lock()
	k, found := f.kept[name]
	f.mu.Unlock()
	if !found || !now.Before(k.until) {
		return nil
	}
	answer := k.answer.Copy()
	passed := uint32(now.Sub(k.from) / time.Second)
	for _, r := range records(answer) {
		r.Header().Ttl -= min(passed, r.Header().Ttl)
	}
	return answer
}

// records are those of an answer that have a time to live.
func records(m *dns.Msg) []dns.RR {
	all := slices.Concat(m.Answer, m.Ns, m.Extra)
	return slices.DeleteFunc(all, func(r dns.RR) bool { return r.Header().Rrtype == dns.TypeOPT })
}

func (f *Forwarder) keep(name string, answer *dns.Msg, now time.Time) {
	lives := lifetime(answer)
	if lives < shortest {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.kept) >= maxKept {
		f.forget(now)
	}
	f.kept[name] = kept{answer.Copy(), now, now.Add(min(lives, longest))}
}

// forget makes room: for what holds no more, and else for some or other. f.mu is
// held.
func (f *Forwarder) forget(now time.Time) {
	for name, k := range f.kept {
		if !now.Before(k.until) || len(f.kept) >= maxKept {
			delete(f.kept, name)
		}
	}
}

// lifetime is how long an answer holds: the shortest time of its records; of one
// that says that there is nothing, what its SOA says (RFC 2308).
func lifetime(m *dns.Msg) time.Duration {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError || m.Truncated {
		return 0
	}
	if len(m.Answer) == 0 {
		for _, r := range m.Ns {
			if soa, is := r.(*dns.SOA); is {
				return time.Duration(min(soa.Minttl, soa.Hdr.Ttl)) * time.Second
			}
		}
		return 0
	}
	least := uint32(longest / time.Second)
	for _, r := range records(m) {
		least = min(least, r.Header().Ttl)
	}
	return time.Duration(least) * time.Second
}
