package client

import (
	"net/http"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
)

// maxRoundTrip is the slowest answer that tells the time: half of it is how far
// off the measure may be.
const maxRoundTrip = time.Second

// skew compares this machine's clock with that of whoever answers.
type skew struct {
	mu    sync.Mutex // guards both
	ahead time.Duration
	known bool
}

// Skew is how far this machine's clock was ahead of the server's in the last
// answer that came fast enough to tell, negative where it was behind. It is not
// known where there was none, or where the server is of a version that does not
// tell the time.
func (s *Server) Skew() (ahead time.Duration, known bool) {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.clock.ahead, s.clock.known
}

// see takes an answer to a request that was sent at that time, and took so long.
func (s *skew) see(answer http.Header, sent time.Time, roundTrip time.Duration) {
	told, err := time.Parse(time.RFC3339Nano, answer.Get(api.TimeHeader))
	if err != nil || roundTrip > maxRoundTrip {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead, s.known = ahead(told, sent, roundTrip), true
}

// ahead takes the answer for one that was written half-way. The time that passed
// is given on its own, since a clock may be set meanwhile.
func ahead(told, sent time.Time, roundTrip time.Duration) time.Duration {
	return sent.Round(0).Add(roundTrip / 2).Sub(told)
}
