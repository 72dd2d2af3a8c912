package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// Election decides which of the servers leads.
type Election interface {
	// Campaign returns once this server leads. Everybody is told the value.
	Campaign(ctx context.Context, value string) (Term, error)
	// Leader sends the value of the server that leads, or nothing, each time
	// that it changes.
	Leader(ctx context.Context) <-chan string
}

// Term is a time during which this server leads.
type Term interface {
	// Context ends with the term.
	Context() context.Context
	// Store refuses to commit after the term.
	Store() store.Store
	Resign(ctx context.Context)
}

// leaderPatience is how long a call waits for a leader: an election takes as
// long as a lost leader's lease, 5 s, and a little more.
const leaderPatience = 10 * time.Second

// leadership is who leads, as this server knows it.
type leadership struct {
	mu      sync.Mutex      // guards all below
	term    context.Context //nolint:containedctx // it is the term, as long as this server leads
	commits store.Store     // of the term: it refuses what comes too late
	leader  resources.ServerAddress
	changed chan struct{} // closed and renewed with each change
	resign  func()        // ends the term
}

func newLeadership() *leadership { return &leadership{changed: make(chan struct{})} }

func (l *leadership) set(how func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how()
	close(l.changed)
	l.changed = make(chan struct{})
}

// decide says what is committed to from now on, before calls are served.
func (l *leadership) decide(commits store.Store) { l.set(func() { l.commits = commits }) }

func (l *leadership) begin(term context.Context) { l.set(func() { l.term = term }) }

func (l *leadership) end() { l.set(func() { l.term, l.commits = nil, nil }) }

// commit commits as the leader. A server that was stopped for a while may take
// itself for the leader still, and a call that waited in it for a new one.
func (l *leadership) commit(ctx context.Context, from *store.State, changes []store.Change) error {
	l.mu.Lock()
	commits := l.commits
	l.mu.Unlock()
	if commits == nil {
		return errNoLeader
	}
	err := commits.Commit(ctx, from, changes)
	if errors.Is(err, store.ErrNotLeader) {
		return errNoLeader
	}
	return err
}

// get returns the term where this server leads, and else who does, if anybody.
func (l *leadership) get() (term context.Context, leader resources.ServerAddress, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term, l.leader, l.changed
}

// Run takes part in the election until ctx ends, and leads when it is its turn.
func (s *Server) Run(ctx context.Context) error {
	value, err := json.Marshal(s.Self)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.reports.keepAwake(ctx, s.Ticks) })
	if s.Election == nil {
		s.rule(ctx, s.Store)
		return nil
	}
	running.Go(func() { s.observe(ctx) })
	running.Go(func() { s.mirror(ctx) })
	for ctx.Err() == nil {
		term, err := s.Election.Campaign(ctx, string(value))
		if err != nil {
			s.Log.Warn("the election is tried again", "err", err)
			pause(ctx, retryWait)
			continue
		}
		s.Log.Info("this server leads")
		ruling, resign := context.WithCancel(term.Context())
		s.leadership.resign = resign
		s.rule(ruling, term.Store()) //nolint:contextcheck // it is the term's
		resign()
		s.Log.Info("this server leads no more")
		resigning, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryWait)
		term.Resign(resigning)
		cancel()
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// observe keeps who leads.
func (s *Server) observe(ctx context.Context) {
	for value := range s.Election.Leader(ctx) {
		var leader resources.ServerAddress
		if value != "" {
			if err := json.Unmarshal([]byte(value), &leader); err != nil {
				s.Log.Error("the leader's address can't be read", "err", err)
			}
		}
		s.leadership.set(func() { s.leadership.leader = leader })
	}
}

// led serves a call on the server that leads: here, or there.
func (s *Server) led(local http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		patience := time.NewTimer(leaderPatience)
		defer patience.Stop()
		for {
			term, leader, changed := s.leadership.get()
			switch {
			case term != nil:
				ctx, cancel := context.WithCancelCause(r.Context())
				stop := context.AfterFunc(term, func() { cancel(errNoLeader) }) //nolint:contextcheck // a term is no call
				local.ServeHTTP(w, r.WithContext(ctx))
				stop()
				cancel(nil)
				return
			case leader.Node != "" && leader.Node != s.Self.Node && r.Header.Get(forwarded) == "":
				s.forward(w, r, leader)
				return
			}
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			case <-patience.C:
				api.Handler(func(*http.Request) (any, error) { return nil, errNoLeader }).ServeHTTP(w, r)
				return
			}
		}
	})
}

// errNoLeader says that nobody decides at present.
var errNoLeader error = api.Errorf(http.StatusServiceUnavailable,
	"no server leads the cluster at present: a majority of its servers has to run and to reach each other")

// forwarded marks a call that another server sent here, so that it is not sent
// on in a circle while the servers disagree about who leads.
const forwarded = "Skerry-Forwarded"

// forward sends a call to the server that leads.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, leader resources.ServerAddress) {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", leader.API()
			p.Out.Host = p.In.Host
			p.Out.Header.Set(forwarded, string(s.Self.Node))
		},
		Transport:     s.transport(leader),
		FlushInterval: -1, // a watch is told at once
		ErrorLog:      slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			s.Log.Info("the leader does not answer", "leader", leader.Node, "err", err)
			api.Handler(func(*http.Request) (any, error) {
				return nil, api.Errorf(http.StatusServiceUnavailable, "the server that leads, on node %s, does not answer: %v", leader.Node, err)
			}).ServeHTTP(w, r)
		},
	}
	// A watch must not outlive the leader that it was begun with.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			_, now, changed := s.leadership.get()
			if now != leader {
				cancel()
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}()
	defer func() {
		// The proxy aborts the answer by a panic where it breaks off.
		if broken := recover(); broken != nil && !errors.Is(asError(broken), http.ErrAbortHandler) {
			panic(broken)
		}
	}()
	proxy.ServeHTTP(w, r.WithContext(ctx))
}

func asError(value any) error {
	err, _ := value.(error)
	return err
}

// transport is the pooled way to another server.
func (s *Server) transport(to resources.ServerAddress) http.RoundTripper {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, found := s.transports[to]
	if !found {
		t = &http.Transport{
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx, to) },
			IdleConnTimeout: time.Minute,
			// The body comes once the leader asks for it; see api.Expect.
			ExpectContinueTimeout: api.ExpectPatience,
		}
		s.transports[to] = t
	}
	return t
}
