// Package api is the form of skerry's HTTP API, for those who serve it and
// those who call it: JSON bodies, errors that carry the attributes they are
// about, and watches.
//
// Every answer has the header Skerry-API with the API's version, and Skerry-Time
// with the time at which it was written. An error is a
// status code and an Error. 404 means that the thing is definitely not there.
//
// A watch is a GET with ?watch=1. Its answer is a stream of JSON values, one a
// line: the present value first, then each new one, whole; and null, as the
// last one, once the thing is gone. An empty line with each pulse, which the
// header Skerry-Pulse tells, shows that the connection lives: TCP alone can take
// minutes to notice that it does not.
package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Version of the API, and the header that carries it.
const (
	Version = "1"
	Header  = "Skerry-API"
)

// TimeHeader carries when an answer was written, as time.RFC3339Nano. HTTP's own
// Date has whole seconds only.
const TimeHeader = "Skerry-Time"

// sign writes what the head of every answer has.
func sign(w http.ResponseWriter) {
	w.Header().Set(Header, Version)
	w.Header().Set(TimeHeader, time.Now().UTC().Format(time.RFC3339Nano))
}

// maxBody bounds what a request or an answer may hold, in bytes: far more than
// any object that etcd would take (1.5 MiB).
const maxBody = 16 << 20

// Error is an error as it crosses the wire.
type Error struct {
	Status   int                `json:"-"`
	Message  string             `json:"error"`
	Problems resources.Problems `json:"problems,omitempty"`
}

func (e *Error) Error() string {
	if len(e.Problems) > 0 {
		return e.Problems.Err().Error()
	}
	return e.Message
}

// Unwrap gives the problems as a *resources.InvalidError, where there are any.
func (e *Error) Unwrap() error { return e.Problems.Err() }

// Errorf makes an error with a status code.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// Invalid makes the error of a value with problems.
func Invalid(problems resources.Problems) *Error {
	return &Error{Status: http.StatusUnprocessableEntity, Message: "the value is not valid", Problems: problems}
}

// IsNotFound is true where err says that the thing is definitely not there.
func IsNotFound(err error) bool { return has(err, http.StatusNotFound) }

// IsConflict is true where err says that things stand in the way of it.
func IsConflict(err error) bool { return has(err, http.StatusConflict) }

// IsNotImplemented is true where who was called has an earlier version, which
// can't do it.
func IsNotImplemented(err error) bool { return has(err, http.StatusNotImplemented) }

func has(err error, status int) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == status
}

// Handler serves a call: its value becomes the body, 204 where it is nil, and
// its error the status. An error that is no Error comes of the Error that ended
// the call's context, where one did.
type Handler func(r *http.Request) (any, error)

func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	value, err := h(r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	if value == nil {
		sign(w)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeJSON(w, http.StatusOK, value)
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) && !errors.As(context.Cause(r.Context()), &e) {
		e = &Error{Status: http.StatusInternalServerError, Message: err.Error()}
	}
	if Elsewhere(e.Status) {
		// The next call may find another server.
		w.Header().Set("Connection", "close")
	}
	writeJSON(w, e.Status, e)
}

// Elsewhere is true for the status of a server that can do nothing for anybody now,
// where another one may: nobody leads as far as it sees, or its disk is full.
func Elsewhere(status int) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusInsufficientStorage
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer can't be written as JSON"}`)
	}
	sign(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) //nolint:errcheck // the caller has gone
}

// Expect makes a call that changes something wait with its body until the server
// asks for it, by HTTP's own "Expect: 100-continue". A call can come late: it
// waited in a server that was stopped, or in TCP while a network was cut, and its
// caller has said it again by then, and something else since. The body of such a
// call never comes, since nobody is there to send it, and so it changes nothing.
func Expect(r *http.Request) { r.Header.Set("Expect", "100-continue") }

// ExpectPatience is how long the body waits: longer than any call.
const ExpectPatience = time.Hour

// Await reads the whole body of a call that changes something, which its caller
// has to be there for.
func Await(r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return Errorf(http.StatusBadRequest, "read the request: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// Body reads the JSON body of a request.
func Body[T any](r *http.Request) (T, error) {
	var value T
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	if err := decoder.Decode(&value); err != nil {
		return value, Errorf(http.StatusBadRequest, "read the request: %v", err)
	}
	return value, nil
}

// Wanted is true where the request asks for a watch.
func Wanted(r *http.Request) bool { return r.URL.Query().Has("watch") }

// appliedParameter of a node's report tells the revision of the network map that
// the node has. Its body is a list, and stays what all versions understand.
const appliedParameter = "applied"

// WithApplied adds to the path of a report the revision of the map; zero is for a
// node that has none.
func WithApplied(path string, revision int64) string {
	if revision == 0 {
		return path
	}
	return path + "?" + appliedParameter + "=" + strconv.FormatInt(revision, 10)
}

// Applied gives the revision that WithApplied has added, or zero.
func Applied(r *http.Request) int64 {
	revision, err := strconv.ParseInt(r.URL.Query().Get(appliedParameter), 10, 64)
	if err != nil {
		return 0
	}
	return revision
}

// pulse is how often a watch shows that it lives: as often as an agent does.
const pulse = 3 * time.Second

// pulseHeader tells the pulse of a watch, and oldPulse is that of servers that
// don't tell.
const (
	pulseHeader = "Skerry-Pulse"
	oldPulse    = 15 * time.Second
)

// Patience is how long a watch may be silent until its connection is dead: three
// pulses.
func Patience(response *http.Response) time.Duration {
	told, err := time.ParseDuration(response.Header.Get(pulseHeader))
	if err != nil || told <= 0 {
		told = oldPulse
	}
	return 3 * told
}

// NotYet is the value of a watch that has none at present: the watch goes on, and
// says nothing.
var NotYet any = notYet{}

type notYet struct{}

// Watch serves a watch. next returns the present value, nil once the thing is
// gone, and a channel that is closed when there may be a new one.
func Watch(w http.ResponseWriter, r *http.Request, next func() (value any, changed <-chan struct{})) {
	sign(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set(pulseHeader, pulse.String())
	controller := http.NewResponseController(w)
	alive := time.NewTicker(pulse)
	defer alive.Stop()
	var last []byte
	for {
		value, changed := next()
		line, err := json.Marshal(value)
		if err != nil {
			return
		}
		switch {
		case value == NotYet:
			if controller.Flush() != nil {
				return
			}
		case !bytes.Equal(line, last):
			last = line
			if _, err := w.Write(append(line, '\n')); err != nil || controller.Flush() != nil {
				return
			}
		}
		if value == nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-alive.C:
			if _, err := io.WriteString(w, "\n"); err != nil || controller.Flush() != nil {
				return
			}
		}
	}
}

// ErrGone ends a watch of something that is gone.
var ErrGone = errors.New("it is gone")

// ReadWatch calls see with each value of a watch, until see returns false or an
// error. It returns ErrGone where the thing is gone, the cause where ctx has
// ended, and an error that is io.ErrUnexpectedEOF where the stream broke off,
// be it in the middle of a value.
func ReadWatch[T any](ctx context.Context, body io.Reader, see func(T) (more bool, err error)) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxBody)
	lines.Split(wholeLines)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if string(line) == "null" {
			return ErrGone
		}
		var value T
		if err := json.Unmarshal(line, &value); err != nil {
			return fmt.Errorf("read a watch: %w", err)
		}
		if more, err := see(value); err != nil || !more {
			return err
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("read a watch: a value has more than %d bytes", maxBody)
	case err == nil || errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	default:
		return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
}

// wholeLines is a bufio.SplitFunc. Unlike bufio.ScanLines it drops a last line
// without an end: that is half a value.
func wholeLines(data []byte, _ bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

// ReadAnswer reads the answer of a call into value, which may be nil, or
// returns its Error.
func ReadAnswer(response *http.Response, value any) error {
	if response.StatusCode >= http.StatusBadRequest {
		return readError(response)
	}
	if value == nil || response.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(value); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

func readError(response *http.Response) error {
	e := &Error{}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil || json.Unmarshal(text, e) != nil || e.Message == "" {
		e.Message = fmt.Sprintf("%s: %s", response.Status, bytes.TrimSpace(text))
	}
	e.Status = response.StatusCode
	if (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed) && response.Header.Get(Header) == "" {
		// Not from skerry's API: a proxy, or a call that this version lacks.
		e.Status = http.StatusNotImplemented
		e.Message += "; where an earlier version of skerry runs there, it can't do this: upgrade the cluster first (`version` of skerry_cluster)"
	}
	return e
}
