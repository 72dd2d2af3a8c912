package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// call serves one request, and reads the answer as a client does.
func call(t *testing.T, h http.Handler, value any) error {
	t.Helper()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	response := recorder.Result()
	defer response.Body.Close() //nolint:errcheck // it is in memory
	return api.ReadAnswer(response, value)
}

func answer(value any, err error) http.Handler {
	return api.Handler(func(*http.Request) (any, error) { return value, err })
}

func TestErrorsCrossTheWire(t *testing.T) {
	var problems resources.Problems
	problems.Addf("image", "is missing")
	problems.Addf("ports[0].target", "is 0")
	for _, c := range []struct {
		name   string
		err    error
		status int
		text   string
	}{
		{"problems", api.Invalid(problems), 422, "image: is missing\nports[0].target: is 0"},
		{"a status", api.Errorf(409, "node %s is taken", "n1"), 409, "node n1 is taken"},
		{"a wrapped one", fmt.Errorf("put it: %w", api.Errorf(404, "no such thing")), 404, "no such thing"},
		{"any other", errors.New("the disk is full"), 500, "the disk is full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := call(t, answer(nil, c.err), nil)
			var got *api.Error
			if !errors.As(err, &got) || got.Status != c.status || got.Error() != c.text {
				t.Fatalf("read %#v, want status %d and %q", err, c.status, c.text)
			}
			if api.IsNotFound(err) != (c.status == 404) {
				t.Errorf("IsNotFound is %t", api.IsNotFound(err))
			}
		})
	}
	var got *api.Error
	if err := call(t, answer(nil, api.Invalid(problems)), nil); !errors.As(err, &got) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(problems, got.Problems); diff != "" {
		t.Errorf("problems (-sent +read):\n%s", diff)
	}
}

// Only skerry's API knows that a thing is not there: a proxy's 404, or that of
// a call which an older version lacks, must never drop a resource.
// A call that its server gave up is answered with why, so that its caller says it
// again where that helps; what the call itself found is answered all the same.
func TestACallThatWasGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(api.Errorf(http.StatusServiceUnavailable, "no server leads"))
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("read the store: %w", ctx.Err()), http.StatusServiceUnavailable},
		{api.Errorf(http.StatusConflict, "node n1 is taken"), http.StatusConflict},
	} {
		recorder := httptest.NewRecorder()
		answer(nil, c.err).ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
		if recorder.Code != c.status {
			t.Errorf("%q was answered with status %d, want %d", c.err, recorder.Code, c.status)
		}
	}
}

func TestForeignNotFound(t *testing.T) {
	err := call(t, http.NotFoundHandler(), nil)
	if err == nil || api.IsNotFound(err) {
		t.Errorf("a 404 of somebody else was read as %v", err)
	}
	if !strings.Contains(err.Error(), "404 page not found") || !strings.Contains(err.Error(), "upgrade the cluster first") {
		t.Errorf("the error does not show the answer: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	var node resources.NodeInfo
	if err := call(t, answer(resources.NodeInfo{Name: "one"}, nil), &node); err != nil || node.Name != "one" {
		t.Errorf("read %+v, %v", node, err)
	}
	if err := call(t, answer(nil, nil), &node); err != nil {
		t.Errorf("an empty answer: %v", err)
	}
	if err := call(t, answer(make(chan int), nil), nil); err == nil {
		t.Error("a value that is no JSON was answered with success")
	}
	recorder := httptest.NewRecorder()
	answer(nil, nil).ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if recorder.Code != http.StatusNoContent || recorder.Header().Get(api.Header) != api.Version {
		t.Errorf("status %d, headers %v", recorder.Code, recorder.Header())
	}
}

func TestBody(t *testing.T) {
	for _, text := range []string{"", "{", `{"name": 3}`, `{"cpus": "many"}`} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/", strings.NewReader(text))
		if _, err := api.Body[resources.Service](r); text != `{"cpus": "many"}` {
			var e *api.Error
			if !errors.As(err, &e) || e.Status != http.StatusBadRequest {
				t.Errorf("body %q: %v, want status 400", text, err)
			}
		} else if err != nil {
			t.Errorf("a field of another version is passed over, not %v", err)
		}
	}
}

func read(ctx context.Context, stream io.Reader) ([]int, error) {
	var seen []int
	err := api.ReadWatch(ctx, stream, func(v []int) (bool, error) {
		seen = append(seen, v...)
		return true, nil
	})
	return seen, err
}

func TestReadWatch(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		seen         []int
		err          error
	}{
		{"until it is gone", "[1]\n[2]\nnull\n[3]\n", []int{1, 2}, api.ErrGone},
		{"pulses", "\n[1]\n\n \n[2]\nnull\n", []int{1, 2}, api.ErrGone},
		{"gone at once", "null\n", nil, api.ErrGone},
		{"it broke off between values", "[1]\n", []int{1}, io.ErrUnexpectedEOF},
		{"it broke off in a value", "[1]\n[2,", []int{1}, io.ErrUnexpectedEOF},
		{"it broke off before the line's end", "[1]\n[2]", []int{1}, io.ErrUnexpectedEOF},
		{"it broke off in null", "[1]\nnul", []int{1}, io.ErrUnexpectedEOF},
		{"nothing came", "", nil, io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen, err := read(t.Context(), strings.NewReader(c.stream))
			if !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if diff := cmp.Diff(c.seen, seen); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestReadWatchEnds(t *testing.T) {
	reset := errors.New("connection reset by peer")
	if _, err := read(t.Context(), broken{reset}); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, reset) {
		t.Errorf("a broken connection gave %v", err)
	}
	why := errors.New("the user went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := read(ctx, broken{reset}); !errors.Is(err, why) {
		t.Errorf("an ended context gave %v", err)
	}
	if _, err := read(t.Context(), strings.NewReader("{}\n")); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a value of another kind gave %v: asking again would not help", err)
	}
	enough := errors.New("enough")
	err := api.ReadWatch(t.Context(), strings.NewReader("[1]\n[2]\n"), func([]int) (bool, error) { return true, enough })
	if !errors.Is(err, enough) {
		t.Errorf("see's own error came back as %v", err)
	}
	if err := api.ReadWatch(t.Context(), strings.NewReader("[1]\n"), func([]int) (bool, error) { return false, nil }); err != nil {
		t.Errorf("a watch that has seen enough: %v", err)
	}
}

// A watch shows the present value, each new one whole, nothing twice, a pulse
// while nothing happens, and null at the end.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values := make(chan any, 1)
		var value any = []int{1}
		changed := make(chan struct{})
		next := func() (any, <-chan struct{}) {
			select {
			case value = <-values:
				changed = make(chan struct{})
			default:
			}
			return value, changed
		}
		recorder := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			api.Watch(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?watch=1", nil), next)
		}()
		for _, v := range []any{[]int{1, 2}, []int{1, 2}, []int{3}} {
			synctest.Wait()
			values <- v
			close(changed)
		}
		synctest.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		values <- nil
		close(changed)
		<-done
		if got, want := recorder.Body.String(), "[1]\n[1,2]\n[3]\n\nnull\n"; got != want {
			t.Errorf("the stream is %q, want %q", got, want)
		}
		if recorder.Header().Get(api.Header) != api.Version {
			t.Error("the answer has no version")
		}
	})
}

func TestWatchEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/?watch=1", nil)
			api.Watch(httptest.NewRecorder(), r, func() (any, <-chan struct{}) { return 1, nil })
		}()
		synctest.Wait()
		cancel()
		<-done
	})
}

func FuzzReadWatch(f *testing.F) {
	for _, text := range []string{"[1]\n\nnull\n", "[1", "null", "{}\n", "[1]\r\n[2]\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		if _, err := read(t.Context(), strings.NewReader(string(stream))); err == nil {
			t.Error("a watch ended without a reason")
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(200, true, `{"id":"x"}`)
	f.Add(404, false, "no such page")
	f.Add(404, true, `{"error":"gone"}`)
	f.Add(422, true, `{"error":"","problems":[{"path":"a","reason":"b"}]}`)
	f.Add(500, true, `{"error":7}`)
	f.Fuzz(func(t *testing.T, status int, ours bool, body string) {
		response := &http.Response{StatusCode: status, Status: "?", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
		if ours {
			response.Header.Set(api.Header, api.Version)
		}
		var node resources.NodeInfo
		err := api.ReadAnswer(response, &node)
		if status >= 400 && err == nil {
			t.Error("an error was read as success")
		}
		if err != nil && err.Error() == "" {
			t.Error("an error says nothing")
		}
		if api.IsNotFound(err) && (!ours || status != 404) {
			t.Error("somebody else's answer says that the thing is not there")
		}
	})
}
