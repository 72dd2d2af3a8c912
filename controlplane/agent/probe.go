package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/health"
	"github.com/skerry-io/skerry/resources"
)

// checkup is the probing of one run of a container.
type checkup struct {
	container string
	started   time.Time
	end       context.CancelFunc
	state     health.State
}

// of is true where the checkup is of the container's present run.
func (k *checkup) of(c *resources.Container) bool {
	return c != nil && c.Running && c.ID == k.container && c.StartedAt.Equal(k.started)
}

// finding is what a probe has come to, of the replica's run that began at a
// time.
type finding struct {
	id      resources.ReplicaID
	started time.Time
	state   health.State
}

// examine begins or ends the probing of a replica, as its container asks for.
func (l *loop) examine(ctx context.Context, u *unit, c *resources.Container) {
	if u.checkup != nil && (!u.replica.Wanted || !u.checkup.of(c)) {
		u.checkup.end()
		u.checkup = nil
	}
	if h := u.replica.Template.Health; h != nil && u.replica.Wanted && u.checkup == nil && c != nil && c.Running {
		ctx, end := context.WithCancel(ctx)
		// What ran before this agent did is not taken out of service for that.
		state := health.Begin(*h, u.history.began(*c), c.StartedAt.Before(l.began))
		u.checkup = &checkup{container: c.ID, started: c.StartedAt, end: end, state: state}
		r, run := u.replica, *c
		l.workers.Go(func() { l.probe(ctx, r.ID, run, state) })
	}
}

// probe asks the replica whenever a probe is due, until ctx ends or the run has
// to. Probes of different kinds don't wait for each other.
func (l *loop) probe(ctx context.Context, id resources.ReplicaID, c resources.Container, s health.State) {
	type answer struct {
		kind         health.Kind
		began, ended time.Time
		failure      string
	}
	answers := make(chan answer)
	busy := map[health.Kind]bool{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for s.Unhealthy() == "" {
		now := time.Now()
		wake := now.Add(lookAgain)
		for _, kind := range []health.Kind{health.Startup, health.Readiness, health.Liveness} {
			at, ever := s.Due(kind)
			switch {
			case !ever || busy[kind]:
			case at.After(now):
				wake = minTime(wake, at)
			default:
				busy[kind] = true
				probe := s.Probe(kind)
				l.workers.Go(func() {
					failure := ask(ctx, l.runtime, c, probe)
					select {
					case answers <- answer{kind, now, time.Now(), failure}:
					case <-ctx.Done():
					}
				})
			}
		}
		timer.Reset(wake.Sub(now))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			continue
		case a := <-answers:
			busy[a.kind] = false
			s = s.Heard(a.kind, a.began, a.ended, a.failure)
		}
		select {
		case l.findings <- finding{id, c.StartedAt, s}:
		case <-ctx.Done():
			return
		}
	}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// learn takes what a probe has come to.
func (l *loop) learn(f finding) {
	u, found := l.units[f.id]
	if !found || u.checkup == nil || !u.checkup.started.Equal(f.started) {
		return // that run is over
	}
	u.checkup.state = f.state
	if why := f.state.Unhealthy(); why != "" && u.history.unhealthy == "" {
		u.history.unhealthy = why
		l.log.Warn("a replica is ended, since it is not healthy", "replica", f.id, "why", why)
	}
}

// ask asks once, and says why the probe failed; nothing where it succeeded.
func ask(ctx context.Context, runtime Containers, c resources.Container, p *resources.Probe) string {
	timeout := time.Duration(p.Timeout)
	late := fmt.Errorf("no answer within %s", p.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	var err error
	switch {
	case p.Exec != nil:
		err = askCommand(ctx, runtime, c, p.Exec)
	case c.Address == "":
		err = errors.New("the container has no address")
	case p.HTTP != nil:
		err = askHTTP(ctx, c.Address, p.HTTP)
	case p.TCP != nil:
		err = askTCP(ctx, c.Address, p.TCP.Port)
	}
	if err != nil && context.Cause(ctx) == late { //nolint:errorlint // it is this very error
		err = late
	}
	if err != nil {
		return fmt.Sprintf("%s: %v", p, err)
	}
	return ""
}

func askCommand(ctx context.Context, runtime Containers, c resources.Container, p *resources.ExecProbe) error {
	code, output, err := runtime.Exec(ctx, c.ID, p.Command)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d %s", code, excerpt(output))
	}
	return err
}

func askTCP(ctx context.Context, address string, port int) error {
	connected, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return connected.Close()
}

// prober asks over HTTP. It keeps no connections: a program that is asked has
// to be able to take one.
var prober = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // it asks whether the program answers, not who it is; as Kubernetes does
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func askHTTP(ctx context.Context, address string, p *resources.HTTPProbe) error {
	url := fmt.Sprintf("%s://%s%s", p.Scheme, net.JoinHostPort(address, strconv.Itoa(p.Port)), p.Path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for name, value := range p.Headers {
		request.Header.Set(name, value)
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	response, err := prober.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusBadRequest {
		return nil
	}
	line, _ := bufio.NewReader(io.LimitReader(response.Body, maxExcerpt)).ReadString('\n')
	return fmt.Errorf("the answer is %s %s", response.Status, excerpt(line))
}

// maxExcerpt is how much of an answer a person gets to see, in bytes.
const maxExcerpt = 200

// excerpt is the first line of a text, for a person.
func excerpt(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	line = strings.ToValidUTF8(line[:min(len(line), maxExcerpt)], "")
	if line == "" {
		return ""
	}
	return "(" + line + ")"
}
