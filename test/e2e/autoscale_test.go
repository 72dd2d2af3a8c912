package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// TestAutoscale applies the example, and lets its services grow and shrink under
// Terraform's eyes, which sees nothing to do.
func TestAutoscale(t *testing.T) {
	bed := testbed.New(t, skerry(), 2)
	text, err := os.ReadFile("../../examples/autoscaling/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(text), "\nvariable") // NewTerraform has a terraform block of its own
	if !found {
		t.Fatal("the example has no variables")
	}
	endpoints, err := json.Marshal([]string{bed.Hosts[0].Endpoint})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TF_VAR_servers", string(endpoints))
	t.Setenv("TF_VAR_archive", images.Archive(t))
	t.Setenv("TF_VAR_queue_address", testbed.Address(0))
	example = "variable" + strings.Replace(example, "servers = var.servers", fmt.Sprintf("servers = var.servers\n  workers = [%q]", bed.Hosts[1].Endpoint), 1)
	tf := NewTerraform(t, bin, example)
	tf.Apply(t)
	t.Cleanup(func() { tf.Try(t, "destroy", "-auto-approve") }) //nolint:errcheck // the hosts go anyway
	tf.Settled(t)
	s := &scaling{control: testbed.Control(t, bed.Hosts[0]), client: bed.Hosts[0].On().HTTP()}
	s.have(t, map[string]int{"web": 1, "jobs": 1, "worker": 0})

	began := time.Now()
	s.ask(t, 8081, "/queue?length=25")
	s.ask(t, 8082, "/queue?length=25")
	s.ask(t, 8080, "/") // its port has come to lead somewhere
	stop := s.load(t, 10, 40)
	s.have(t, map[string]int{"web": 4, "jobs": 3, "worker": 3})
	t.Logf("grown %s after the load began", time.Since(began).Round(time.Second))
	tf.Settled(t)
	tf.Run(t, "apply", "-refresh-only", "-auto-approve", "-no-color")
	if got := tf.Attribute(t, "skerry_service.web", "current_replicas"); fmt.Sprint(got) != "4" {
		t.Errorf("the state says that web has %v replicas", got)
	}
	first := &dev{bed.Hosts[0]}
	first.says(t, []string{"autoscale", "explain", "web"}, "web is to have 4 replicas, from 1 to 4", "cpu is", "target 50%")
	first.says(t, []string{"autoscale", "explain", "worker"}, "web_queue_length of http://"+testbed.Address(0)+":8082/metrics is 25, target 10 each")

	began = time.Now()
	stop()
	stop = s.load(t, 4, 0)
	s.ask(t, 8082, "/queue?length=0")
	for range 30 { // each of its replicas
		s.ask(t, 8081, "/queue?length=1")
	}
	s.have(t, map[string]int{"web": 1, "jobs": 1, "worker": 0})
	stop()
	t.Logf("shrunk %s after the load ended; %d of %d requests failed", time.Since(began).Round(time.Second), s.failed.Load(), s.asked.Load())
	if s.failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", s.failed.Load(), s.asked.Load())
	}
	tf.Settled(t)

	// Other bounds hold at once, and replace nothing.
	before := s.service(t, "web")
	tf.Configure(t, strings.Replace(strings.Replace(example, "min  = 1", "min  = 2", 1), "max  = 4", "max  = 3", 1))
	tf.Apply(t)
	after := s.service(t, "web")
	if after.Count != 2 || after.Ready != 2 || after.Revision != before.Revision {
		t.Errorf("with min = 2, it has %d replicas, %d ready, of revision %d; it was %d", after.Count, after.Ready, after.Revision, before.Revision)
	}
	tf.Settled(t)
	tf.Destroy(t)
}

// scaling is a cluster whose services are asked.
type scaling struct {
	control       *client.Server
	client        *http.Client
	asked, failed atomic.Int64
}

func (s *scaling) service(t *testing.T, name string) resources.ServiceStatus {
	t.Helper()
	status, err := s.control.Service(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// have returns once the services have so many replicas, all of them ready.
func (s *scaling) have(t *testing.T, want map[string]int) {
	t.Helper()
	eventually(t, fmt.Sprintf("services have %v replicas", want), func() (string, bool) {
		saw, ok := "", true
		for name, count := range want {
			status := s.service(t, name)
			saw += fmt.Sprintf("%s has %d, %d ready, %d in all\n", name, status.Count, status.Ready, len(status.Replicas))
			ok = ok && status.Count == count && status.Ready == count && len(status.Replicas) == count
			if spec := status.Service.Autoscale; status.Count < spec.Min || status.Count > spec.Max {
				t.Fatalf("%s has %d replicas, out of bounds", name, status.Count)
			}
		}
		if !ok {
			for name := range want {
				if status, err := s.control.Autoscale(t.Context(), name); err == nil && len(status.Decisions) > 0 {
					saw += fmt.Sprintf("%+v\n", status.Decisions[len(status.Decisions)-1])
				}
			}
		}
		return saw, ok
	})
}

func (s *scaling) get(ctx context.Context, port int, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", testbed.Address(0), port, path), nil)
	if err != nil {
		return err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func (s *scaling) ask(t *testing.T, port int, path string) {
	t.Helper()
	eventually(t, "an answer of "+path, func() (string, bool) {
		err := s.get(t.Context(), port, path)
		return fmt.Sprint(err), err == nil
	})
}

// load asks web so many times in a second to use the processor for so many
// milliseconds, until stop is called.
func (s *scaling) load(t *testing.T, rate, milliseconds int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		room := make(chan struct{}, 8)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			select {
			case room <- struct{}{}:
			default:
				continue // it has enough to do
			}
			asking.Go(func() {
				defer func() { <-room }()
				s.asked.Add(1)
				if err := s.get(context.WithoutCancel(ctx), 8080, fmt.Sprintf("/burn?ms=%d", milliseconds)); err != nil {
					s.failed.Add(1)
					t.Logf("a request failed: %v", err)
				}
			})
		}
	})
	return func() { cancel(); asking.Wait() }
}
