package server

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/controlplane/metrics"
	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// measures is what a server counts.
type measures struct {
	registry   *prometheus.Registry
	decisions  prometheus.Histogram
	commits    *prometheus.CounterVec
	placements prometheus.Counter
	refusals   prometheus.Counter
	requests   *prometheus.CounterVec
	scalings   *prometheus.CounterVec
}

func newMeasures() *measures {
	m := &measures{
		registry: metrics.New(),
		decisions: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "skerry_server_decision_seconds", Buckets: metrics.Seconds,
			Help: "How long the planners took to decide from one snapshot.",
		}),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skerry_server_commits_total", Help: "Batches of changes that were given to the store.",
		}, []string{"by", "result"}),
		placements: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skerry_server_placements_total", Help: "Replicas that got a node.",
		}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skerry_server_placements_refused_total", Help: "Replicas that found no node, or not for another reason than before.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skerry_server_requests_total", Help: "Answered requests of the API; a watch counts when it ends.",
		}, []string{"route", "code"}),
		scalings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skerry_autoscale_changes_total", Help: "Changes of the number of replicas that the autoscaler has made.",
		}, []string{"direction"}),
	}
	m.registry.MustRegister(m.decisions, m.commits, m.placements, m.refusals, m.requests, m.scalings)
	return m
}

// committed counts the end of a commit, and returns its error.
func (m *measures) committed(by string, err error) error {
	result := "done"
	switch {
	case errors.Is(err, store.ErrStale):
		result = "stale"
	case errors.Is(err, store.ErrNotLeader):
		result = "not_leader"
	case err != nil:
		result = "failed"
	}
	m.commits.WithLabelValues(by, result).Inc()
	return err
}

// What is read of the cluster when somebody asks. Only the server that leads
// knows more than whether it does, and how large its store is.
var (
	stateLeader     = metrics.NewState("skerry_server_is_leader", "1 where this server leads the cluster, and else 0.")
	stateStore      = metrics.NewState("skerry_server_store_bytes", "Size of the file of this server's store.")
	stateNodes      = metrics.NewState("skerry_nodes", "Nodes by state.", "state")
	stateConditions = metrics.NewState("skerry_node_conditions", "Nodes by condition that holds.", "condition")
	stateServices   = metrics.NewState("skerry_services", "Services by state.", "state")
	stateScaled     = metrics.NewState("skerry_autoscale_replicas", "Replicas that an autoscaled service is to have now.", "service")
	stateWants      = metrics.NewState("skerry_autoscale_wanted_replicas", "Replicas that its targets ask for, before bounds, windows and steps.", "service")
	stateRatio      = metrics.NewState("skerry_autoscale_ratio", "Ratio of use and target of an autoscaled service; absent while it can't be measured.", "service", "target")
	stateReplicas   = metrics.NewState("skerry_replicas", "Replicas that are wanted, and of those the ready ones and those without a node.", "state")
)

func (s *Server) states() metrics.States {
	return metrics.States{
		All:  []metrics.State{stateLeader, stateStore, stateNodes, stateConditions, stateServices, stateReplicas, stateScaled, stateWants, stateRatio},
		Read: s.readStates,
	}
}

func (s *Server) readStates(set metrics.Set) {
	if sized, ok := s.Store.(interface{ Size() int64 }); ok {
		set(stateStore, float64(sized.Size()))
	}
	if term, _, _ := s.leadership.get(); term == nil {
		set(stateLeader, 0)
		return
	}
	set(stateLeader, 1)
	shown, _ := s.board.get()
	v := s.reports.view(shown.state, time.Now())
	each := func(state metrics.State, counts map[string]int) {
		for label, n := range counts {
			set(state, float64(n), label)
		}
	}
	nodes, conditions := v.countNodes()
	each(stateNodes, nodes)
	each(stateConditions, conditions)
	each(stateServices, v.countServices())
	each(stateReplicas, v.countReplicas())
	s.readScaling(v, set)
}

func (s *Server) readScaling(v *view, set metrics.Set) {
	for name, service := range v.state.Services {
		if service.Service.Autoscale == nil {
			continue
		}
		set(stateScaled, float64(service.Count()), name)
		latest, found := s.scaler.latest(name)
		if !found {
			continue
		}
		set(stateWants, float64(latest.Wants), name)
		for _, r := range latest.Readings {
			if r.Problem == "" {
				set(stateRatio, r.Ratio, name, r.Name)
			}
		}
	}
}

// countNodes counts each node once, under the worst that is true of it.
func (v *view) countNodes() (states, conditions map[string]int) {
	states = map[string]int{"ready": 0, "silent": 0, "cordoned": 0, "drained": 0}
	conditions = map[string]int{}
	for _, c := range resources.NodeConditionTypes {
		conditions[string(c)] = 0
	}
	for id, n := range v.state.Nodes {
		switch {
		case !v.ready[id]:
			states["silent"]++
		case n.Availability != resources.NodeActive:
			states[string(n.Availability)]++
		default:
			states["ready"]++
		}
		for _, c := range n.Conditions {
			conditions[string(c.Type)]++
		}
	}
	return states, conditions
}

func (v *view) countServices() map[string]int {
	states := map[string]int{string(resources.ServiceRolling): 0, string(resources.ServiceRunning): 0, string(resources.ServiceWaiting): 0, string(resources.ServiceFailed): 0}
	for _, service := range v.state.Services {
		states[string(v.status(service).State)]++
	}
	return states
}

func (v *view) countReplicas() map[string]int {
	states := map[string]int{"wanted": 0, "ready": 0, "pending": 0}
	for id, r := range v.state.Replicas.All() {
		if !r.Wanted {
			continue
		}
		states["wanted"]++
		if rollout.Ready(v.seen[id]) && v.ready[r.Node] {
			states["ready"]++
		}
		if r.Node == "" {
			states["pending"]++
		}
	}
	return states
}

// counted counts what a handler answers, by the route that routes says.
func (m *measures) counted(route func(*http.Request) string, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		// A proxy ends an answer that breaks off by a panic.
		defer func() { m.requests.WithLabelValues(route(r), strconv.Itoa(answer.status)).Inc() }()
		handler.ServeHTTP(answer, r)
	})
}

// answer keeps the status of an answer.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap gives http.ResponseController what it looks for.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
