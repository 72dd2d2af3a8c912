package exposition

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/resources"
)

const page = `# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code="200",path="/a"} 10
http_requests_total{code="200",path="/b"} 5
http_requests_total{code="500",path="/a"} 1
# TYPE queue_length gauge
queue_length{queue="mail"} 7
queue_length{queue="print"} NaN
plain 3
# TYPE took_seconds histogram
took_seconds_bucket{le="1"} 2
took_seconds_bucket{le="+Inf"} 4
took_seconds_sum 9.5
took_seconds_count 4
`

func TestValue(t *testing.T) {
	for _, c := range []struct {
		name    string
		metric  resources.Metric
		want    float64
		counter bool
		err     string
	}{
		{"all of a counter", resources.Metric{Name: "http_requests_total"}, 16, true, ""},
		{"by a label", resources.Metric{Name: "http_requests_total", Labels: map[string]string{"code": "200"}}, 15, true, ""},
		{"by two labels", resources.Metric{Name: "http_requests_total", Labels: map[string]string{"code": "200", "path": "/b"}}, 5, true, ""},
		{"a gauge, but for what is no number", resources.Metric{Name: "queue_length"}, 7, false, ""},
		{"without a type", resources.Metric{Name: "plain"}, 3, false, ""},
		{"the sum of a histogram", resources.Metric{Name: "took_seconds_sum"}, 9.5, true, ""},
		{"its count", resources.Metric{Name: "took_seconds_count"}, 4, true, ""},
		{"no such metric", resources.Metric{Name: "other"}, 0, false, "there is no metric other"},
		{"no such label", resources.Metric{Name: "plain", Labels: map[string]string{"a": "b"}}, 0, false, "no sample"},
		{"only what is no number", resources.Metric{Name: "queue_length", Labels: map[string]string{"queue": "print"}}, 0, false, "no sample"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Read(strings.NewReader(page))
			if err != nil {
				t.Fatal(err)
			}
			got, counter, err := p.Value(c.metric)
			if got != c.want || counter != c.counter || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("it is %g, counter %v, error %v", got, counter, err)
			}
		})
	}
}

func TestRate(t *testing.T) {
	at := time.Unix(1000, 0)
	var r Rate
	for _, c := range []struct {
		value, want float64
		ok          bool
	}{{10, 0, false}, {25, 1.5, true}, {25, 0, true}, {5, 0, false}, {20, 1.5, true}} {
		got, ok := r.Next(c.value, at)
		if got != c.want || ok != c.ok {
			t.Errorf("at %g it is %g, %v", c.value, got, ok)
		}
		at = at.Add(10 * time.Second)
		if c.value == 10 {
			r.at = at.Add(-10 * time.Second)
		}
	}
	if _, ok := r.Next(30, at.Add(-time.Hour)); ok {
		t.Error("a clock that goes back gives a rate")
	}
}

func TestFetch(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"/metrics": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(page)) }, //nolint:errcheck // a test
		"/no":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"/html":    func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }, //nolint:errcheck // a test
		"/large": func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(strings.Repeat("plain 1\n", maxPage/8+1))) //nolint:errcheck // a test
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answers[r.URL.Path](w, r) }))
	defer server.Close()
	for path, want := range map[string]string{"/metrics": "", "/no": "418", "/html": "text format", "/large": "larger than"} {
		_, err := Fetch(t.Context(), server.Client(), server.URL+path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Fetch(t.Context(), server.Client(), "http://me:hidden@127.0.0.1:1/"); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(page)
	f.Add("a{b=\"c\"} 1 2\n")
	f.Fuzz(func(_ *testing.T, text string) {
		p, err := Read(strings.NewReader(text))
		if err == nil {
			p.Value(resources.Metric{Name: "a", Labels: map[string]string{"b": "c"}}) //nolint:errcheck // it must not panic
		}
	})
}
