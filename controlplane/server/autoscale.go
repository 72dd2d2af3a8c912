package server

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/autoscale"
	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

const (
	// staleSamples is how long a measurement counts: two may be missing.
	staleSamples = 3 * resources.ScalePeriod
	// keptDecisions is how many decisions of a service are kept, of which the last
	// latestDecisions in any case; those that change nothing go first.
	keptDecisions, latestDecisions = 12, 6
)

// scaler is what the leader knows of the demand. It lives in memory, as reports
// do: a new leader removes no replica before it has seen as much as a window
// remembers.
type scaler struct {
	mu      sync.Mutex // guards all below
	samples map[resources.NodeID]map[resources.ReplicaID]sample
	outside map[outsideKey]outsideValue
	// services are those that were decided about, and next is when to do so again.
	services map[string]*scaledService
	next     time.Time
}

// sample is what was measured of a replica from since to at, by the leader's own
// clock.
type sample struct {
	resources.Sample
	since, at time.Time
}

type scaledService struct {
	history   autoscale.History
	pending   autoscale.History // from now on, once the decision is carried out
	decisions []resources.ScaleDecision
}

func newScaler() *scaler {
	return &scaler{
		samples: map[resources.NodeID]map[resources.ReplicaID]sample{}, outside: map[outsideKey]outsideValue{},
		services: map[string]*scaledService{},
	}
}

// lead forgets what was known in an earlier term.
func (s *scaler) lead(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.samples)
	clear(s.outside)
	clear(s.services)
	s.next = now
}

// put takes what a node has measured.
func (s *scaler) put(node resources.NodeID, all []resources.Sample, now time.Time) {
	byReplica := make(map[resources.ReplicaID]sample, len(all))
	for _, one := range all {
		byReplica[one.Replica] = sample{one, now.Add(-time.Duration(one.Span)), now}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples[node] = byReplica
}

// plan decides for all services of a view, where that is due, and says when it is
// due next; zero for never.
func (s *scaler) plan(v *view) (due map[string]resources.ScaleDecision, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, service := range v.state.Services {
		if service.Service.Autoscale != nil && !service.Deleting {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		clear(s.services)
		return nil, time.Time{}
	}
	if v.now.Before(s.next) {
		return nil, s.next
	}
	maps.DeleteFunc(s.samples, func(node resources.NodeID, _ map[resources.ReplicaID]sample) bool { return !hasNode(v.state, node) })
	known := s.services
	s.services = make(map[string]*scaledService, len(names))
	due = make(map[string]resources.ScaleDecision, len(names))
	replicas := v.wantedReplicas(names)
	for _, name := range names {
		if s.services[name] = known[name]; s.services[name] == nil {
			s.services[name] = &scaledService{}
		}
		in := s.input(v, v.state.Services[name], replicas[name])
		in.History = s.services[name].history
		due[name], s.services[name].pending = autoscale.Plan(in, v.now)
	}
	return due, v.now.Add(resources.ScalePeriod)
}

// carriedOut takes what has come of the decisions.
func (s *scaler) carriedOut(v *view, scaled map[string]resources.ScaleDecision) {
	if v.scaling == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = v.now.Add(resources.ScalePeriod)
	for name, d := range scaled {
		if service := s.services[name]; service != nil {
			service.history = service.pending.Moved(d.From, d.To, v.now)
			service.decisions = keep(service.decisions, d)
		}
	}
}

// keep adds a decision, and drops one where there are too many.
func keep(all []resources.ScaleDecision, d resources.ScaleDecision) []resources.ScaleDecision {
	all = append(slices.Clone(all), d)
	if len(all) <= keptDecisions {
		return all
	}
	idle := slices.IndexFunc(all[:len(all)-latestDecisions], func(d resources.ScaleDecision) bool { return d.From == d.To })
	i := max(idle, 0)
	return slices.Delete(all, i, i+1)
}

// latest gives what was decided last about a service.
func (s *scaler) latest(name string) (resources.ScaleDecision, bool) {
	all := s.decisions(name)
	if len(all) == 0 {
		return resources.ScaleDecision{}, false
	}
	return all[len(all)-1], true
}

func (s *scaler) decisions(name string) []resources.ScaleDecision {
	s.mu.Lock()
	defer s.mu.Unlock()
	if service := s.services[name]; service != nil {
		return service.decisions
	}
	return nil
}

// input is what is known of a service. s.mu is held.
func (s *scaler) input(v *view, service resources.ServiceRecord, replicas []*resources.Replica) autoscale.Input {
	spec := service.Service.Autoscale
	signals := autoscale.Signals(spec)
	in := autoscale.Input{
		Autoscale: spec, Reserved: service.Service.Resources, Count: service.Count(),
		Outside: make([]float64, len(signals)), Problems: make([]string, len(signals)),
	}
	for i, signal := range signals {
		in.Outside[i] = math.NaN()
		known, found := s.outside[outsideKey{service.Service.Name, signal.Name}]
		if !found {
			continue
		}
		in.Problems[i] = known.problem
		if v.now.Sub(known.at) < staleSamples {
			in.Outside[i] = known.value
		}
	}
	in.Replicas = make([]autoscale.Replica, len(replicas))
	values := make([]float64, len(signals)*len(replicas))
	// Of a silent node, replicas are taken to run and to tell nothing, until it is
	// given up.
	for i, r := range replicas {
		in.Replicas[i] = s.measured(v, r, signals, values[i*len(signals):][:len(signals)], in.Problems)
	}
	return in
}

// wantedReplicas finds the replicas of services that are wanted, and not lost, in
// no order: the decisions are the same in any. They are not copied, since they
// are many.
func (v *view) wantedReplicas(names []string) map[string][]*resources.Replica {
	found := make(map[string][]*resources.Replica, len(names))
	for _, name := range names {
		found[name] = nil
	}
	for _, r := range v.state.Replicas.All() {
		if all, asked := found[r.Service]; asked && r.Wanted && !v.lost[r.Node] {
			found[r.Service] = append(all, r)
		}
	}
	return found
}

// measured is what is known of a replica. s.mu is held.
func (s *scaler) measured(v *view, r *resources.Replica, signals []autoscale.Signal, values []float64, problems []string) autoscale.Replica {
	status := v.seen[r.ID]
	one := autoscale.Replica{
		Running: status.State == resources.ReplicaRunning, Ready: rollout.Ready(status),
		Started: status.StartedAt, ReadySince: status.ReadySince, Values: values,
	}
	got, found := s.samples[r.Node][r.ID]
	fresh := found && v.now.Sub(got.at) < staleSamples
	one.Since = got.since
	for i, signal := range signals {
		value, measured := got.Values[signal.Name]
		if !fresh || !measured {
			value = math.NaN()
		}
		if problem := got.Problems[signal.Name]; fresh && problem != "" && (problems[i] == "" || problem < problems[i]) {
			problems[i] = problem
		}
		values[i] = value
	}
	return one
}

// samplesOf tells a node what to measure.
func samplesOf(state *store.State, id resources.NodeID) []resources.SampleOrder {
	orders := map[string]resources.SampleOrder{}
	for _, r := range state.ReplicasOn(id) {
		spec := state.Services[r.Service].Service.Autoscale
		if _, known := orders[r.Service]; known || spec == nil || !r.Wanted {
			continue
		}
		order := resources.SampleOrder{Service: r.Service, Usage: spec.CPU > 0 || spec.Memory > 0, Metrics: spec.Inside()}
		if order.Usage || len(order.Metrics) > 0 {
			orders[r.Service] = order
		}
	}
	var all []resources.SampleOrder
	for _, name := range slices.Sorted(maps.Keys(orders)) {
		all = append(all, orders[name])
	}
	return all
}

// scaledFor is how many replicas a service has once it is put: one that had some
// goes on with them, and a new one begins with what the user says; within the
// bounds.
func (s *Server) scaledFor(state *store.State, old resources.ServiceRecord, service resources.Service) *resources.Scaled {
	if service.Autoscale == nil {
		return nil
	}
	now := resources.Scaled{}.To(service.Replicas)
	if old.Revision > 0 && !old.Deleting {
		if now = now.To(old.Count()); old.Service.Autoscale != nil && old.Scaled != nil {
			now = *old.Scaled
		}
	}
	count := service.Autoscale.Bound(len(now.Slots))
	if count < len(now.Slots) && old.Revision > 0 {
		now = newRoom(s.reports.view(state, time.Now()), state).shrink(now, old, count)
	}
	now = now.To(count)
	return &now
}

func (s *Server) putSamples(r *http.Request) (any, error) {
	samples, err := api.Body[[]resources.Sample](r)
	if err != nil {
		return nil, err
	}
	id := resources.NodeID(r.PathValue("id"))
	if err := s.checkMember(r.Context(), id); err != nil {
		return nil, err
	}
	s.scaler.put(id, samples, time.Now())
	return nil, nil
}

// explainScaling answers with how a service is scaled.
func (s *Server) explainScaling(r *http.Request) (any, error) {
	v, err := s.look(r.Context())
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	service, found := v.state.Services[name]
	switch {
	case !found:
		return nil, api.Errorf(http.StatusNotFound, "service %s is not there", name)
	case service.Service.Autoscale == nil:
		return nil, api.Errorf(http.StatusConflict, "service %s is not autoscaled: it has no autoscale", name)
	}
	status := v.status(service)
	return resources.AutoscaleStatus{
		Service: name, Autoscale: *service.Service.Autoscale, Count: status.Count, Ready: status.Ready,
		Decisions: append([]resources.ScaleDecision{}, s.scaler.decisions(name)...),
	}, nil
}

// wordsOf says in a line what a decision comes from.
func wordsOf(d resources.ScaleDecision) string {
	var words []string
	for _, r := range d.Readings {
		if r.Problem == "" {
			words = append(words, fmt.Sprintf("%s is %s, target %s", r.Name, r.Value, r.Target))
		}
	}
	return strings.Join(append(words, d.Reasons...), "; ")
}

// scaled takes what has come of what the autoscaler says, once it is stored, and
// tells where the cluster has no room, each time for another reason.
func (s *Server) scaled(v *view, d *decision) {
	for _, name := range slices.Sorted(maps.Keys(d.scaled)) {
		now := d.scaled[name]
		before, _ := s.scaler.latest(name)
		if now.NoRoom != "" && now.NoRoom != before.NoRoom {
			s.events.add("service/"+name, "NoRoom", fmt.Sprintf("it is to have %d replicas, and %s", now.Wants, now.NoRoom), v.now)
		}
		if now.To != now.From {
			s.measures.scalings.WithLabelValues(map[bool]string{true: "up", false: "down"}[now.To > now.From]).Inc()
		}
	}
	s.scaler.carriedOut(v, d.scaled)
}
