package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

type pipe struct {
	io.Reader
	io.Writer
}

func (pipe) Close() error { return nil }

func TestFramesComeBack(t *testing.T) {
	var wire bytes.Buffer
	s := NewSession(pipe{&wire, &wire})
	long := strings.Repeat("x", 3*maxFrame/2)
	if _, err := io.WriteString(s.Stream(FrameOutput), long); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(FrameInput, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.SendJSON(FrameResult, Result{Code: 3}); err != nil {
		t.Fatal(err)
	}
	var kinds []byte
	var text string
	for {
		kind, content, err := s.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, kind)
		text += string(content)
	}
	if want := []byte{FrameOutput, FrameOutput, FrameInput, FrameResult}; !bytes.Equal(kinds, want) || text != long+`{"code":3}` {
		t.Errorf("frames %v with %d bytes", kinds, len(text))
	}
}

// An end in the middle of a frame is no end.
func TestHalfAFrame(t *testing.T) {
	var wire bytes.Buffer
	if err := NewSession(pipe{&wire, &wire}).Send(FrameOutput, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	whole := wire.Bytes()
	for n := 1; n < len(whole); n++ {
		_, _, err := NewSession(pipe{bytes.NewReader(whole[:n]), io.Discard}).Receive()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestUpgrade(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := Upgrade(w, r)
		if err != nil {
			Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
			return
		}
		defer s.Close() //nolint:errcheck // the test has what it wants
		_, content, err := s.Receive()
		if err == nil {
			err = s.Send(FrameOutput, content)
		}
		if err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close() //nolint:errcheck // its status counts
	if response.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a plain call is answered with %s", response.Status)
	}
	// All at once, as a caller may.
	connection, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close() //nolint:errcheck // it was read
	request := "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: skerry-session\r\n\r\n\x00\x00\x00\x00\x02hi"
	if _, err := io.WriteString(connection, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(connection)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 101 ") || !strings.HasSuffix(string(answer), "\r\n\r\n\x01\x00\x00\x00\x02hi") {
		t.Errorf("%q, %v", answer, err)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x02hi"))
	f.Add([]byte("\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		s := NewSession(pipe{bytes.NewReader(wire), io.Discard})
		for {
			kind, content, err := s.Receive()
			if err != nil {
				return
			}
			var again bytes.Buffer
			if err := NewSession(pipe{nil, &again}).Send(kind, content); err != nil || !bytes.HasPrefix(wire, again.Bytes()) {
				t.Fatalf("frame %q is not what was sent", again.Bytes())
			}
			wire = wire[again.Len():]
		}
	})
}
