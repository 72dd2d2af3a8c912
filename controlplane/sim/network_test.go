package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// network connects machines as TCP does: what is sent while there is no way is
// sent again, after waits that double, so that a way that is mended is not used
// at once; and nobody is told when a machine loses its power.
type network struct {
	running sync.WaitGroup // the goroutines of all connections

	mu      sync.Mutex // guards all below
	cut     map[*machine]bool
	pairs   map[[2]*machine]bool
	delay   map[*machine]time.Duration
	listens map[*machine]*listener
	links   map[*link]bool
}

// Waits of TCP as Linux has them: until the first try again of a connection and
// of what is sent on one, and the longest.
const (
	dialAgain = time.Second
	sendAgain = 200 * time.Millisecond
	longAgain = 2 * time.Minute
)

// catchUp is how long a process that was stopped is busy with itself.
const catchUp = 10 * time.Millisecond

func newNetwork() *network {
	return &network{
		cut: map[*machine]bool{}, pairs: map[[2]*machine]bool{}, delay: map[*machine]time.Duration{},
		listens: map[*machine]*listener{}, links: map[*link]bool{},
	}
}

// reach is true where packets get from one machine to the other.
func (n *network) reach(a, b *machine) bool {
	if a == b {
		return a.isUp()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return a.isUp() && b.isUp() && !n.cut[a] && !n.cut[b] && !n.pairs[[2]*machine{a, b}] && !n.pairs[[2]*machine{b, a}]
}

func (n *network) latency(a, b *machine) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.delay[a] + n.delay[b]
}

func (n *network) change(how func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	how()
}

// link is one connection.
type link struct {
	from, to           *machine
	fromBoot, toBoot   int
	fromConn, toConn   net.Conn // the ends that the programs have
	fromInner, toInner net.Conn
	done               chan struct{}
	once               sync.Once
}

var errRefused = errors.New("connection refused")

// dial connects two machines, or waits until ctx ends.
func (n *network) dial(ctx context.Context, from, to *machine) (net.Conn, error) {
	for wait := dialAgain; !n.reach(from, to); wait = min(2*wait, longAgain) {
		if err := sleep(ctx, wait); err != nil {
			return nil, fmt.Errorf("dial %s: %w", to.name, err)
		}
	}
	select {
	case <-to.gate(): // for TLS, the process has to answer
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %s: %w", to.name, context.Cause(ctx))
	}
	if err := sleep(ctx, 2*n.latency(from, to)); err != nil {
		return nil, fmt.Errorf("dial %s: %w", to.name, err)
	}
	l := &link{from: from, to: to, fromBoot: from.bootCount(), toBoot: to.bootCount(), done: make(chan struct{})}
	l.fromConn, l.fromInner = net.Pipe()
	l.toConn, l.toInner = net.Pipe()
	n.mu.Lock()
	at := n.listens[to]
	n.links[l] = true
	n.mu.Unlock()
	if at == nil || !at.offer(l.toConn) {
		l.end()
		return nil, fmt.Errorf("dial %s: %w", to.name, errRefused)
	}
	n.running.Go(func() { n.pump(l, l.fromInner, l.toInner, from, to) })
	n.running.Go(func() { n.pump(l, l.toInner, l.fromInner, to, from) })
	return l.fromConn, nil
}

// end breaks a connection off for both ends.
func (l *link) end() {
	l.once.Do(func() {
		close(l.done)
		for _, c := range []net.Conn{l.fromConn, l.fromInner, l.toConn, l.toInner} {
			c.Close() //nolint:errcheck // it is in memory
		}
	})
}

// buffered is how many writes an end may be ahead of the network, as with the
// buffers of TCP. Writes hardly ever block.
const buffered = 1024

// pump carries what one end sends to the other, until one of them closes.
func (n *network) pump(l *link, src, dst net.Conn, from, to *machine) {
	sent := make(chan []byte, buffered)
	n.running.Go(func() { l.take(src, sent) })
	for chunk := range sent {
		if !n.carry(l, from, to) {
			return
		}
		if _, err := dst.Write(chunk); err != nil {
			break
		}
	}
	if n.carry(l, from, to) {
		l.end()
		n.change(func() { delete(n.links, l) })
	}
}

// take takes what an end sends, until it is closed.
func (l *link) take(src net.Conn, sent chan<- []byte) {
	defer close(sent)
	buffer := make([]byte, 64<<10)
	for {
		size, err := src.Read(buffer)
		if err != nil {
			return
		}
		select {
		case sent <- slices.Clone(buffer[:size]):
		case <-l.done:
			return
		}
	}
}

// carry waits until something that is sent has arrived. It is false where it
// never does, which the receiver is not told.
func (n *network) carry(l *link, from, to *machine) bool {
	for wait := sendAgain; ; wait = min(2*wait, longAgain) {
		if n.boot(l, from) != from.bootCount() {
			return false // the sender is no more
		}
		if n.reach(from, to) {
			break
		}
		select {
		case <-l.done:
			return false
		case <-time.After(wait):
		}
	}
	if n.boot(l, to) != to.bootCount() {
		l.end() // the receiver knows nothing of the connection
		return false
	}
	for _, m := range []*machine{from, to} {
		for m.isStopped() {
			select {
			case <-m.gate():
				// It looks at its clock before it looks at what has come.
				time.Sleep(catchUp)
			case <-l.done:
				return false
			}
		}
	}
	if d := n.latency(from, to); d > 0 {
		select {
		case <-l.done:
			return false
		case <-time.After(d):
		}
	}
	return true
}

func (n *network) boot(l *link, m *machine) int {
	if m == l.from {
		return l.fromBoot
	}
	return l.toBoot
}

// powerOff closes a machine's ends of its connections, unseen by the others.
func (n *network) powerOff(m *machine) {
	n.change(func() {
		for l := range n.links {
			if l.from == m {
				l.fromConn.Close() //nolint:errcheck // it is in memory
			}
			if l.to == m {
				l.toConn.Close() //nolint:errcheck // it is in memory
			}
		}
	})
}

// close ends everything.
func (n *network) close() {
	n.mu.Lock()
	links := slices.Collect(func(yield func(*link) bool) {
		for l := range n.links {
			if !yield(l) {
				return
			}
		}
	})
	n.mu.Unlock()
	for _, l := range links {
		l.end()
	}
	n.running.Wait()
}

// listen takes the connections to a machine, until the listener is closed.
func (n *network) listen(m *machine) *listener {
	l := newListener(func(l *listener) {
		n.change(func() {
			if n.listens[m] == l {
				delete(n.listens, m)
			}
		})
	})
	n.change(func() { n.listens[m] = l })
	return l
}

// listener is a net.Listener of a program.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	leave  func(*listener)
}

func newListener(leave func(*listener)) *listener {
	return &listener{conns: make(chan net.Conn), closed: make(chan struct{}), leave: leave}
}

func (l *listener) offer(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.closed:
		return false
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.leave(l)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "sim", Net: "sim"} }

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
