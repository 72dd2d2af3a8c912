package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// How long a service may take to answer as it should, and one request of it: a
// container that is up may take a moment more to listen.
const (
	answerPatience = 2 * time.Minute
	requestTimeout = 10 * time.Second
)

// answers asks until the page says what is wanted.
func answers(t testing.TB, client *http.Client, url, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerPatience)
	defer cancel()
	client.Timeout = requestTimeout
	last := "nothing"
	for ctx.Err() == nil {
		page, err := get(ctx, client, url)
		if err == nil && strings.Contains(page, want) {
			return
		}
		if last = page; err != nil {
			last = err.Error()
		}
	}
	t.Fatalf("%s does not answer with %q: %s", url, want, last)
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	page, err := io.ReadAll(response.Body)
	return string(page), err
}
