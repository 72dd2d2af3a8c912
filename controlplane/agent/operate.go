package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
)

// operate serves what a person does with the replicas of this node, reading their
// logs and running commands in them, and with its volumes.
func (a *Agent) operate(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/replicas/{id}/logs", a.streamLogs)
	mux.HandleFunc("POST /v1/replicas/{id}/exec", a.runCommand)
	mux.HandleFunc("POST /v1/volumes/{name}/backup", a.backUp)
	mux.HandleFunc("POST /v1/volumes/{name}/restore", a.restore)
	mux.HandleFunc("POST /v1/volumes/{name}/read", a.copyFrom)
	mux.HandleFunc("POST /v1/volumes/{name}/write", a.copyTo)
}

// serversHandler serves the servers of the cluster, whose certificates were
// verified, and nobody else.
func (a *Agent) serversHandler() http.Handler {
	mux := http.NewServeMux()
	a.operate(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := admitServer(r); err != nil {
			api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func admitServer(r *http.Request) error {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return api.Errorf(http.StatusUnauthorized, "a server shows its certificate")
	}
	who, err := pki.IdentityOf(r.TLS.PeerCertificates[0])
	if err != nil {
		return api.Errorf(http.StatusUnauthorized, "%v", err)
	}
	if !who.Server {
		return api.Errorf(http.StatusForbidden, "node %s may not do that: it is a worker", who.Node)
	}
	return nil
}

// lookPatience bounds how long a call waits for an agent that has only begun.
const lookPatience = 10 * time.Second

// container finds a replica that has a container. An agent that has only begun
// looks first: it knows nothing of its replicas before.
func (a *Agent) container(r *http.Request) (resources.ReplicaStatus, error) {
	ctx, cancel := context.WithTimeout(r.Context(), lookPatience)
	defer cancel()
	select {
	case <-a.loop.looked:
	case <-ctx.Done():
	}
	id := resources.ReplicaID(r.PathValue("id"))
	s, found := a.loop.status(id)
	switch {
	case !found:
		return s, api.Errorf(http.StatusNotFound, "node %s has no replica %s", a.name(), id)
	case s.ContainerID == "":
		return s, api.Errorf(http.StatusConflict, "%s", strings.TrimSpace(fmt.Sprintf("replica %s is %s and has no container yet %s", id, s.State, s.Message)))
	}
	return s, nil
}

// streamLogs answers with the lines of a replica's log.
func (a *Agent) streamLogs(w http.ResponseWriter, r *http.Request) {
	options, err := api.Body[resources.LogOptions](r)
	if err == nil && options.Previous && options.Follow {
		err = api.Errorf(http.StatusBadRequest, "a run that has ended writes no more: give either follow or previous")
	}
	var s resources.ReplicaStatus
	if err == nil {
		s, err = a.container(r)
	}
	if err != nil {
		api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
		return
	}
	if options.Previous {
		options.Since, options.Until = latest(options.Since, s.PreviousStartedAt), s.StartedAt
	}
	out := &flushed{w: w, controller: http.NewResponseController(w)}
	for more := true; more; {
		if err := a.Console.StreamLogs(r.Context(), s.ContainerID, options, out); err != nil {
			if !out.begun {
				api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
			}
			return
		}
		if !options.Follow {
			return
		}
		// What the next runs write follows, from their beginning on.
		ended := time.Now()
		s, more = a.loop.nextRun(r.Context(), s)
		options.Tail, options.Since = -1, minTime(ended, s.StartedAt)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// flushed sends what is written at once.
type flushed struct {
	w          http.ResponseWriter
	controller *http.ResponseController
	begun      bool
}

func (f *flushed) Write(p []byte) (int, error) {
	if !f.begun {
		f.begun = true
		f.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	n, err := f.w.Write(p)
	if err == nil {
		err = f.controller.Flush()
	}
	return n, err
}

// runCommand runs a command in a replica. The call's header says what; the
// connection then carries the session.
func (a *Agent) runCommand(w http.ResponseWriter, r *http.Request) {
	command, err := api.HeaderValue[resources.Command](r, api.CommandHeader)
	if err == nil && len(command.Args) == 0 {
		err = api.Errorf(http.StatusBadRequest, "there is no command to run")
	}
	var s resources.ReplicaStatus
	if err == nil {
		s, err = a.container(r)
	}
	var session *api.Session
	if err == nil {
		session, err = api.Upgrade(w, r)
	}
	if err != nil {
		api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
		return
	}
	defer session.Close() //nolint:errcheck // the caller has what there was
	a.Log.Info("a command is run in a replica", "replica", r.PathValue("id"), "program", command.Args[0])
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	in, typed := io.Pipe()
	resize := make(chan resources.TerminalSize, 1)
	go func() { cancel(receive(session, typed, resize)) }()
	defer in.Close() //nolint:errcheck // it ends whoever writes
	streams := resources.Streams{In: in, Out: session.Stream(api.FrameOutput), Err: session.Stream(api.FrameErrors), Resize: resize}
	code, err := a.Console.Attach(ctx, s.ContainerID, command, streams)
	result := api.Result{Code: code}
	if err != nil {
		result.Error = err.Error()
	}
	session.SendJSON(api.FrameResult, result) //nolint:errcheck // the caller may have gone
}

// errHungUp says that the caller of a command has gone.
var errHungUp = errors.New("the caller hung up")

// receive hands on what the caller of a command sends, until it hangs up.
func receive(session *api.Session, typed *io.PipeWriter, resize chan resources.TerminalSize) error {
	for {
		kind, content, err := session.Receive()
		switch {
		case err != nil:
			typed.CloseWithError(io.ErrUnexpectedEOF)
			return errHungUp
		case kind == api.FrameInput && len(content) == 0:
			typed.Close() //nolint:errcheck // it never fails
		case kind == api.FrameInput:
			typed.Write(content) //nolint:errcheck // a command need not read it
		case kind == api.FrameResize:
			if size, err := api.Decode[resources.TerminalSize](content); err == nil {
				select {
				case <-resize: // the newer one counts
				default:
				}
				resize <- size
			}
		}
	}
}
