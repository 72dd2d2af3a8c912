package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/controlplane/metrics"
	"github.com/skerry-io/skerry/resources"
)

// measures is what an agent counts.
type measures struct {
	registry  *prometheus.Registry
	steps     *prometheus.HistogramVec
	restarts  prometheus.Counter
	collected prometheus.Counter
}

func newMeasures() *measures {
	m := &measures{
		registry: metrics.New(),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "skerry_agent_step_seconds", Buckets: metrics.Seconds, Help: "How long the steps of replicas took, by kind and result.",
		}, []string{"step", "result"}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skerry_agent_restarts_total", Help: "Containers that were started again.",
		}),
		collected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skerry_agent_images_collected_total", Help: "Unused images that were removed.",
		}),
	}
	m.registry.MustRegister(m.steps, m.restarts, m.collected)
	return m
}

// carriedOut counts the end of a step.
func (m *measures) carriedOut(do verb, took time.Duration, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.steps.WithLabelValues(do.String(), result).Observe(took.Seconds())
}

// What is read of the node when somebody asks.
var (
	stateReplicas   = metrics.NewState("skerry_agent_replicas", "Replicas of the node by state.", "state")
	stateConditions = metrics.NewState("skerry_agent_condition", "1 while the condition holds, and else 0.", "condition")
)

var replicaStates = []resources.ReplicaState{
	resources.ReplicaPending, resources.ReplicaPulling, resources.ReplicaStarting, resources.ReplicaRunning,
	resources.ReplicaStopping, resources.ReplicaBackoff, resources.ReplicaExited, resources.ReplicaGone,
}

func (a *Agent) states() metrics.States {
	return metrics.States{All: []metrics.State{stateReplicas, stateConditions}, Read: a.readStates}
}

func (a *Agent) readStates(set metrics.Set) {
	count := map[resources.ReplicaState]int{}
	for _, s := range a.loop.statuses() {
		count[s.State]++
	}
	for _, state := range replicaStates {
		set(stateReplicas, float64(count[state]), string(state))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, condition := range resources.NodeConditionTypes {
		held := 0.0
		if _, holds := a.conditions[condition]; holds {
			held = 1
		}
		set(stateConditions, held, string(condition))
	}
}
