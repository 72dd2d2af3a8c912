package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"os/exec"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/metrics"
	"github.com/skerry-io/skerry/resources"
)

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/node", api.Handler(func(*http.Request) (any, error) { return a.Info() }))
	mux.Handle("PUT /v1/node/settings", api.Handler(a.putSettings))
	mux.Handle("POST /v1/node/grow", api.Handler(a.grow))
	mux.Handle("POST /v1/node/certificate-request", api.Handler(func(*http.Request) (any, error) { return a.request() }))
	mux.Handle("POST /v1/node/reach", api.Handler(a.reach))
	mux.Handle("POST /v1/node/leave", api.Handler(a.leave))
	mux.Handle("PUT /v1/cluster", api.Handler(a.join))
	mux.Handle("DELETE /v1/cluster", api.Handler(a.removed))
	a.operate(mux)
	mux.Handle("GET /metrics", metrics.Handler(a.loop.measures.registry))
	return mux
}

func (a *Agent) putSettings(r *http.Request) (any, error) {
	settings, err := api.Body[resources.NodeSettings](r)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	node := a.node
	a.mu.Unlock()
	node.Labels, node.Taints, node.AuthorizedKeys = settings.Labels, settings.Taints, settings.AuthorizedKeys
	if !reflect.DeepEqual(node, a.node) {
		if err := PutNode(a.Data, node); err != nil {
			return nil, err
		}
		a.set(func() { a.node = node })
	}
	if err := a.writeAuthorizedKeys(); err != nil {
		return nil, err
	}
	return a.Info()
}

var partition = regexp.MustCompile(`^(/dev/[sv]d[a-z])([0-9]+)$`)

// grow grows the root and the data file system to their disks. ext4 does that
// while it is mounted; one that is as large already is left alone.
func (a *Agent) grow(r *http.Request) (any, error) {
	for _, dir := range []string{"/", a.Data} {
		source, err := exec.CommandContext(r.Context(), "findmnt", "-n", "-o", "SOURCE", "--target", dir).Output()
		if err != nil {
			return nil, fmt.Errorf("find the disk of %s: %w", dir, err)
		}
		device := strings.TrimSpace(string(source))
		if !strings.HasPrefix(device, "/dev/") {
			continue
		}
		// A partition, as stock images have, grows before its file system.
		if part := partition.FindStringSubmatch(device); part != nil {
			if out, err := exec.CommandContext(r.Context(), "growpart", part[1], part[2]).CombinedOutput(); err != nil && !strings.Contains(string(out), "NOCHANGE") {
				return nil, fmt.Errorf("grow partition %s: %w: %s", device, err, strings.TrimSpace(string(out)))
			}
		}
		if out, err := exec.CommandContext(r.Context(), "resize2fs", device).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("grow %s: %w: %s", device, err, strings.TrimSpace(string(out)))
		}
	}
	return nil, nil
}

// drain removes every container of the node, and returns when none is left.
func (a *Agent) drain(ctx context.Context) error {
	a.loop.assign(resources.Assignment{})
	for {
		left, changed := a.loop.left()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %d replicas have stopped: %w", left, context.Cause(ctx))
		case <-changed:
		}
	}
}

// registryProxy leads what asks for the cluster's registry to the server.
func (a *Agent) registryProxy() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", resources.Registry
			r.Out.Host = r.In.Host
		},
		Transport: a.ServerTransport,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Only reads: what is in the registry is put there by plugins.
		if !slices.Contains([]string{http.MethodGet, http.MethodHead}, r.Method) || !strings.HasPrefix(path.Clean(r.URL.Path)+"/", "/v2/") {
			http.Error(w, "only pulls", http.StatusMethodNotAllowed)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}
