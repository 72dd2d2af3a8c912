package resources

import (
	"fmt"
	"slices"
	"strings"
)

// Placement says which nodes may run a service's replicas, and which of those
// are better. It stands beside the Template and not in it: a change replaces
// only the replicas whose node no longer fits.
type Placement struct {
	// What a node has to fulfil, all of them: `zone == a`, `disk != hdd`, `zone in (a, b)`, `zone not in (a, b)`, `gpu exists`, `gpu not exists`. A word is a label of the node, `node.name` or `node.id`.
	Constraints []string `json:"constraints,omitempty" iac:"optional"`
	// Labels of nodes, such as `zone`: replicas are spread evenly over their values. The first counts most. Nodes without the label come last.
	Spread []string `json:"spread,omitempty" iac:"optional"`
	// `spread` takes the node with the fewest replicas of the service, and then the emptiest; `binpack` takes the fullest that has room.
	Strategy string `json:"strategy,omitempty" iac:"default=spread"`
	// What a better node fulfils: as in `constraints`, or `service == db` where it runs replicas of that service, or `service.tier == cache` where it runs replicas with that label.
	Affinity []string `json:"affinity,omitempty" iac:"optional"`
	// What a better node does not fulfil, written as in `affinity`.
	AntiAffinity []string `json:"anti_affinity,omitempty" iac:"optional"`
	// Taints of nodes that don't matter: `gpu=true:NoSchedule`, `gpu=true`, `gpu` with any value, or `*` for all.
	Tolerations []string `json:"tolerations,omitempty" iac:"optional"`
	// The most replicas of the service on one node; any number unless given.
	MaxReplicasPerNode int `json:"max_replicas_per_node,omitempty" iac:"optional"`
	// From -1000 to 1000. Replicas of a higher priority are placed first, and where there is no room, those of a lower one stop for them.
	Priority int `json:"priority,omitempty" iac:"default=0"`
}

// The values of Strategy.
const (
	StrategySpread  = "spread"
	StrategyBinpack = "binpack"
)

// MaxPriority is the highest priority, and its negative the lowest.
const MaxPriority = 1000

// maxConditions is the longest list of conditions: more is a generated mistake.
const maxConditions = 100

func (p *Placement) setDefaults() { setDefault(&p.Strategy, StrategySpread) }

// validate adds every problem of the placement of the service.
func (p *Placement) validate(problems *Problems, service string) {
	checkConditions(problems, "placement.constraints", p.Constraints, func(c Condition) string {
		if c.Service() {
			return "asks for a service, which only affinity and anti_affinity can"
		}
		return ""
	})
	checkSpread(problems, "placement.spread", p.Spread)
	oneOf(problems, "placement.strategy", p.Strategy, StrategySpread, StrategyBinpack)
	wanted := func(c Condition) string {
		if c.Key == keyService && slices.Contains(c.Values, service) {
			return "names the service itself; strategy = \"binpack\" packs its replicas together"
		}
		return ""
	}
	checkConditions(problems, "placement.affinity", p.Affinity, wanted)
	checkConditions(problems, "placement.anti_affinity", p.AntiAffinity, func(c Condition) string {
		for i, text := range p.Affinity {
			if other, err := ParseCondition(text); err == nil && other.String() == c.String() {
				return fmt.Sprintf("is what affinity[%d] wants; remove one of them", i)
			}
		}
		return ""
	})
	for i, text := range p.Tolerations {
		if _, err := ParseToleration(text); err != nil {
			problems.Addf(fmt.Sprintf("placement.tolerations[%d]", i), "%v", err)
		}
	}
	if p.MaxReplicasPerNode < 0 {
		problems.Addf("placement.max_replicas_per_node", "is %d; give 1 or more, or leave it out for any number", p.MaxReplicasPerNode)
	}
	if p.Priority < -MaxPriority || p.Priority > MaxPriority {
		problems.Addf("placement.priority", "is %d; it is from %d to %d", p.Priority, -MaxPriority, MaxPriority)
	}
}

// checkConditions adds what is wrong with the conditions of a list: that they
// can't be read, or what refuse says of them.
func checkConditions(problems *Problems, path string, list []string, refuse func(Condition) string) {
	if len(list) > maxConditions {
		problems.Addf(path, "has %d conditions; %d is the most", len(list), maxConditions)
	}
	for i, text := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		c, err := ParseCondition(text)
		if err != nil {
			problems.Addf(at, "%v", err)
		} else if why := refuse(c); why != "" {
			problems.Addf(at, "%q %s", text, why)
		}
	}
}

func checkSpread(problems *Problems, path string, labels []string) {
	for i, key := range labels {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case !labelPattern.MatchString(key):
			problems.Addf(at, "%q is not a label's key, such as zone", key)
		case slices.Index(labels, key) < i:
			problems.Addf(at, "%q stands there twice", key)
		}
	}
}

// AffinityCycle returns services of which each wants to be where the next one
// is, the last one where the first is, or nil where there are none. In a cycle
// the order of creation would decide, and no placement would be at rest.
func AffinityCycle(services []Service) []string {
	wants := map[string][]string{}
	for _, s := range services {
		wants[s.Name] = s.follows()
	}
	const open, closed = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		if state[name] == closed {
			return nil
		}
		if state[name] == open {
			return append([]string{}, path[slices.Index(path, name):]...)
		}
		state[name] = open
		path = append(path, name)
		for _, next := range wants[name] {
			if cycle := visit(next); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		state[name] = closed
		return nil
	}
	for _, name := range sortedKeys(wants) {
		if cycle := visit(name); cycle != nil {
			return cycle
		}
	}
	return nil
}

// follows lists the services whose nodes the service wants.
func (s *Service) follows() []string {
	var names []string
	if s.Placement == nil {
		return nil
	}
	for _, text := range s.Placement.Affinity {
		if c, err := ParseCondition(text); err == nil && c.Key == keyService {
			names = append(names, c.Values...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Effect is what a taint does to replicas that don't tolerate it. The names are
// those of Kubernetes.
type Effect string

// The effects.
const (
	NoSchedule       Effect = "NoSchedule"       // none are placed on the node
	PreferNoSchedule Effect = "PreferNoSchedule" // other nodes are better
	NoExecute        Effect = "NoExecute"        // none are placed, and those that run have to leave
)

var effects = []Effect{NoSchedule, PreferNoSchedule, NoExecute}

// Taint keeps replicas off a node, unless they tolerate it. In text it is
// `key=value:Effect` or `key:Effect`, as kubectl writes it.
type Taint struct {
	Key, Value string
	Effect     Effect
}

// ParseTaint reads a taint as Taint describes it.
func ParseTaint(text string) (Taint, error) {
	name, effect, found := strings.Cut(text, ":")
	t := Taint{Effect: Effect(effect)}
	t.Key, t.Value, _ = strings.Cut(name, "=")
	switch {
	case !found || !slices.Contains(effects, t.Effect):
		return Taint{}, fmt.Errorf("%q is not a taint: write key=value:Effect, with one of the effects NoSchedule, PreferNoSchedule, NoExecute", text)
	case !labelPattern.MatchString(t.Key):
		return Taint{}, fmt.Errorf("%q is not a taint: %q is not a key of at most 63 letters, digits and - _ . /", text, t.Key)
	case !valuePattern.MatchString(t.Value):
		return Taint{}, fmt.Errorf("%q is not a taint: %q is not a value of at most 63 letters, digits and - _ . /", text, t.Value)
	}
	return t, nil
}

// String gives the text that ParseTaint reads.
func (t Taint) String() string {
	if t.Value == "" {
		return t.Key + ":" + string(t.Effect)
	}
	return t.Key + "=" + t.Value + ":" + string(t.Effect)
}

// Toleration says which taints don't matter to a service. In text it is
// `key=value:Effect`; without the effect it is for every effect, without the
// value for every value, and `*` is for every taint.
type Toleration struct {
	Key string
	// Value is nil for every value.
	Value  *string
	Effect Effect
}

// ParseToleration reads a toleration as Toleration describes it.
func ParseToleration(text string) (Toleration, error) {
	name, effect, hasEffect := strings.Cut(text, ":")
	t := Toleration{Effect: Effect(effect)}
	key, value, hasValue := strings.Cut(name, "=")
	if t.Key = key; hasValue {
		t.Value = &value
	}
	switch {
	case hasEffect && !slices.Contains(effects, t.Effect):
		return Toleration{}, fmt.Errorf("%q is not a toleration: the effect is one of NoSchedule, PreferNoSchedule, NoExecute", text)
	case key == "*" && !hasValue:
		return t, nil
	case !labelPattern.MatchString(key) || !valuePattern.MatchString(value):
		return Toleration{}, fmt.Errorf("%q is not a toleration: write key=value:Effect, key=value, key, or * for every taint", text)
	}
	return t, nil
}

// String gives the text that ParseToleration reads.
func (t Toleration) String() string {
	text := t.Key
	if t.Value != nil {
		text += "=" + *t.Value
	}
	if t.Effect != "" {
		text += ":" + string(t.Effect)
	}
	return text
}

// Tolerates is true where the taint does not matter.
func (t Toleration) Tolerates(taint Taint) bool {
	return (t.Effect == "" || t.Effect == taint.Effect) &&
		(t.Key == "*" || t.Key == taint.Key && (t.Value == nil || *t.Value == taint.Value))
}

func checkTaints(p *Problems, path string, taints []string) {
	seen := map[string]int{}
	for i, text := range taints {
		at := fmt.Sprintf("%s[%d]", path, i)
		t, err := ParseTaint(text)
		if err != nil {
			p.Addf(at, "%v", err)
			continue
		}
		name := t.Key + ":" + string(t.Effect)
		if first, found := seen[name]; found {
			p.Addf(at, "taints %s, which %s[%d] does already", name, path, first)
			continue
		}
		seen[name] = i
	}
}
