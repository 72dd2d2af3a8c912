package api

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// SessionProtocol is what a connection is upgraded to that carries a command's
// input and output: frames of a byte that says what it is, four bytes of
// length (big endian), and so many bytes.
const SessionProtocol = "skerry-session"

// The kinds of frames of a session.
const (
	FrameInput  byte = iota // to the command; an empty one is the end of it
	FrameOutput             // from its standard output
	FrameErrors             // from its standard error
	FrameResize             // to its terminal, as JSON of a resources.TerminalSize
	FrameResult             // the last one: how it ended, as JSON of Result
)

// maxFrame bounds a frame, in bytes.
const maxFrame = 64 << 10

// Result is how a command has ended: with an exit code, or not at all.
type Result struct {
	Code  int    `json:"code"`
	Error string `json:"error,omitempty"`
}

// Session is one end of a session. Its writes may come from several goroutines.
type Session struct {
	connection io.ReadWriteCloser
	mu         sync.Mutex // held while a frame is written
}

// NewSession makes a Session over an upgraded connection.
func NewSession(connection io.ReadWriteCloser) *Session { return &Session{connection: connection} }

// Close ends the connection.
func (s *Session) Close() error { return s.connection.Close() }

// Send sends one frame, or several where it is long.
func (s *Session) Send(kind byte, content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for first := true; first || len(content) > 0; first = false {
		part := content[:min(len(content), maxFrame)]
		content = content[len(part):]
		head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(part)))
		if _, err := s.connection.Write(append(head, part...)); err != nil {
			return err
		}
	}
	return nil
}

// SendJSON sends a value as one frame.
func (s *Session) SendJSON(kind byte, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.Send(kind, text)
}

// Receive returns the next frame. One goroutine at a time may call it.
func (s *Session) Receive() (kind byte, content []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(s.connection, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes is too long", size)
	}
	content = make([]byte, size)
	if _, err := io.ReadFull(s.connection, content); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return head[0], content, nil
}

// Stream writes frames of a kind.
func (s *Session) Stream(kind byte) io.Writer { return stream{s, kind} }

type stream struct {
	session *Session
	kind    byte
}

func (s stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.session.Send(s.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CommandHeader carries the command of a session, as JSON: the body of a call
// that is upgraded belongs to the session.
const CommandHeader = "Skerry-Command"

// HeaderValue reads the JSON of a header.
func HeaderValue[T any](r *http.Request, name string) (T, error) {
	value, err := Decode[T]([]byte(r.Header.Get(name)))
	if err != nil {
		return value, Errorf(http.StatusBadRequest, "read the header %s: %v", name, err)
	}
	return value, nil
}

// Decode reads JSON.
func Decode[T any](text []byte) (T, error) {
	var value T
	err := json.Unmarshal(text, &value)
	return value, err
}

// Upgrade answers a request for a session, and gives this end of it.
func Upgrade(w http.ResponseWriter, r *http.Request) (*Session, error) {
	if r.Header.Get("Upgrade") != SessionProtocol {
		return nil, Errorf(http.StatusUpgradeRequired, "this call asks for an upgrade to %s", SessionProtocol)
	}
	connection, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("begin a session: %w", err)
	}
	_, err = fmt.Fprintf(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\n\r\n", SessionProtocol, Header, Version)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin a session: %w", err), connection.Close())
	}
	// What the caller has sent at once is in the buffer.
	return NewSession(struct {
		io.Reader
		io.Writer
		io.Closer
	}{buffered, connection, connection}), nil
}
