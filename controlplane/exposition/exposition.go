// Package exposition reads what programs expose for Prometheus: a page of
// metrics, of which the value of one is looked up, and counters as rates.
package exposition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/skerry-io/skerry/resources"
)

// maxPage is the largest page that is read: that of a program with some 50,000
// series.
const maxPage = 8 << 20

// Page is the metrics that a program exposes at one moment.
type Page struct{ families map[string]*dto.MetricFamily }

// Read reads a page in Prometheus' text format, of at most 8 MiB.
func Read(r io.Reader) (Page, error) {
	limited := &io.LimitedReader{R: r, N: maxPage + 1}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(limited)
	switch {
	case limited.N == 0:
		return Page{}, fmt.Errorf("the page is larger than %d bytes", maxPage)
	case err != nil:
		return Page{}, fmt.Errorf("the page is not in Prometheus' text format: %w", err)
	}
	return Page{families}, nil
}

// Fetch reads the page at an address. Its error shows no password of it.
func Fetch(ctx context.Context, client *http.Client, address string) (Page, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return Page{}, errors.New("the address can't be read")
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4;q=1,*/*;q=0.1")
	response, err := client.Do(request)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return Page{}, err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	if response.StatusCode != http.StatusOK {
		return Page{}, fmt.Errorf("the answer is %s", response.Status)
	}
	return Read(response.Body)
}

// Value gives the sum of the samples that a metric names. counter is true where
// it only grows, until the program starts again.
func (p Page) Value(m resources.Metric) (value float64, counter bool, err error) {
	family, of := p.find(m.Name)
	if family == nil {
		return 0, false, fmt.Errorf("there is no metric %s", m.Name)
	}
	matching := 0
	for _, series := range family.GetMetric() {
		if !matches(series, m.Labels) {
			continue
		}
		if v, ok := of(series); ok && !math.IsNaN(v) && !math.IsInf(v, 0) {
			value += v
			matching++
		}
	}
	if matching == 0 {
		return 0, false, fmt.Errorf("metric %s has no sample that can be used", m.Name)
	}
	return value, family.GetType() != dto.MetricType_GAUGE && family.GetType() != dto.MetricType_UNTYPED, nil
}

// find gives the family of a name, and how to get the value of its series. The
// sums and counts of histograms and summaries have names of their own.
func (p Page) find(name string) (*dto.MetricFamily, func(*dto.Metric) (float64, bool)) {
	if f := p.families[name]; f != nil {
		return f, simple
	}
	if base, ok := strings.CutSuffix(name, "_sum"); ok {
		if f := p.families[base]; f != nil {
			return f, sumOf
		}
	}
	if base, ok := strings.CutSuffix(name, "_count"); ok {
		if f := p.families[base]; f != nil {
			return f, countOf
		}
	}
	return nil, nil
}

func simple(m *dto.Metric) (float64, bool) {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue(), true
	case m.Gauge != nil:
		return m.Gauge.GetValue(), true
	case m.Untyped != nil:
		return m.Untyped.GetValue(), true
	}
	return 0, false
}

func sumOf(m *dto.Metric) (float64, bool) {
	switch {
	case m.Histogram != nil:
		return m.Histogram.GetSampleSum(), true
	case m.Summary != nil:
		return m.Summary.GetSampleSum(), true
	}
	return 0, false
}

func countOf(m *dto.Metric) (float64, bool) {
	switch {
	case m.Histogram != nil:
		return float64(m.Histogram.GetSampleCount()), true
	case m.Summary != nil:
		return float64(m.Summary.GetSampleCount()), true
	}
	return 0, false
}

func matches(series *dto.Metric, labels map[string]string) bool {
	found := 0
	for _, l := range series.GetLabel() {
		if want, asked := labels[l.GetName()]; asked {
			if l.GetValue() != want {
				return false
			}
			found++
		}
	}
	return found == len(labels)
}

// Rate turns a counter into a rate. The zero Rate has seen nothing.
type Rate struct {
	value float64
	at    time.Time
}

// Next takes the counter's value at a time, and gives the rate by second since
// the last one; false for the first one, and where the counter began anew.
func (r *Rate) Next(value float64, at time.Time) (rate float64, ok bool) {
	before := *r
	*r = Rate{value, at}
	if before.at.IsZero() || value < before.value || !at.After(before.at) {
		return 0, false
	}
	return (value - before.value) / at.Sub(before.at).Seconds(), true
}
