package client

import (
	"net/http"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
)

func TestSkew(t *testing.T) {
	sent := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name      string
		told      string
		roundTrip time.Duration
		want      time.Duration
		known     bool
	}{
		{"in step", "2030-01-01T12:00:00.1Z", 200 * time.Millisecond, 0, true},
		{"ahead", "2030-01-01T11:59:57Z", 0, 3 * time.Second, true},
		{"behind", "2030-01-01T12:00:03.5Z", time.Second, -3 * time.Second, true},
		{"in another zone", "2030-01-01T14:00:00+02:00", 0, 0, true},
		{"too slow to tell", "2030-01-01T12:00:00Z", time.Second + 1, 0, false},
		{"an earlier version", "", 0, 0, false},
		{"nonsense", "noon", 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Server{&connection{}}
			s.clock.see(http.Header{http.CanonicalHeaderKey(api.TimeHeader): {c.told}}, sent, c.roundTrip)
			if got, known := s.Skew(); got != c.want || known != c.known {
				t.Errorf("%s ahead, known: %t; want %s, %t", got, known, c.want, c.known)
			}
		})
	}
}
