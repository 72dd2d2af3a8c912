package resources

import (
	"fmt"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Autoscale lets the number of a service's replicas follow the demand. Names,
// meanings and defaults are those of Kubernetes' HorizontalPodAutoscaler
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/),
// unless another source is named.
type Autoscale struct {
	// The fewest replicas. 0 needs a metric with a `url`: what is outside the replicas has to tell when the first one is needed.
	Min int `json:"min" iac:"default=1"`
	// The most replicas.
	Max int `json:"max"`
	// Processor time that the replicas are kept at on average, in percent of `resources.cpu`.
	CPU int `json:"cpu,omitempty" iac:"optional"`
	// Memory that the replicas are kept at on average, in percent of `resources.memory`. Files that the kernel could drop at once don't count.
	Memory int `json:"memory,omitempty" iac:"optional"`
	// Prometheus metrics that the replicas expose, or something outside them. Of all targets the one that asks for the most replicas counts.
	Metrics []Metric `json:"metrics,omitempty" iac:"optional"`
	// How far the use may be from its target before anything changes, in percent of the target.
	Tolerance Share `json:"tolerance,omitzero" iac:"default=10%"`
	// How replicas are added. At once and at most 4 of them in 15s, or as many as there are where that is more, unless given.
	Up *ScaleUp `json:"up,omitempty" iac:"optional"`
	// How replicas are removed. As many as the highest demand of the last 5m did not need, unless given.
	Down *ScaleDown `json:"down,omitempty" iac:"optional"`
	// Times at which there are more replicas than `min`, whatever the demand.
	Schedules []ScaleSchedule `json:"schedules,omitempty" iac:"optional"`
}

// Metric is a value that Prometheus could scrape, and what it should be.
// Samples of the name that have the labels are added up, and counters turned
// into rates by second.
type Metric struct {
	// Name of the metric, as in `http_requests_total`.
	Name string `json:"name"`
	// Values of labels that a sample has to have.
	Labels map[string]string `json:"labels,omitempty" iac:"optional"`
	// Port at which each replica exposes the metric. Give this, or `url`.
	Port int `json:"port,omitempty" iac:"optional"`
	// Path at which it does. `/metrics` unless given.
	Path string `json:"path,omitempty" iac:"optional"`
	// Page with the metric of something outside the replicas, such as `http://queue.example:9090/metrics`. The server that leads reads it.
	URL string `json:"url,omitempty" iac:"optional"`
	// What there should be for each replica: as many replicas are wanted as the sum has times the target. Give this, or `target_total`.
	TargetAverage float64 `json:"target_average,omitempty" iac:"optional"`
	// What the sum should be: the number of replicas changes as the sum is off the target.
	TargetTotal float64 `json:"target_total,omitempty" iac:"optional"`
}

// ScaleUp bounds how replicas are added.
type ScaleUp struct {
	// How long a demand has to last: the lowest one of this time counts.
	Window Duration `json:"window" iac:"default=0s"`
	// The most replicas that are added in a period: counts, or percentages of the replicas at its begin; of several the largest. `4` and `100%` unless given.
	Steps []Share `json:"steps,omitempty" iac:"optional"`
	// The period.
	Period Duration `json:"period,omitempty" iac:"default=15s"`
}

// ScaleDown bounds how replicas are removed.
type ScaleDown struct {
	// How long a demand is remembered: the highest one of this time counts.
	Window Duration `json:"window" iac:"default=5m"`
	// The most replicas that are removed in a period: counts, or percentages of the replicas at its begin; of several the largest. `100%` unless given.
	Steps []Share `json:"steps,omitempty" iac:"optional"`
	// The period.
	Period Duration `json:"period,omitempty" iac:"default=15s"`
}

// ScaleSchedule is a time at which there are more replicas than usual.
type ScaleSchedule struct {
	// When it begins, as cron has it: minute, hour, day of the month, month, day of the week. `30 7 * * 1-5` is half past seven from Monday to Friday.
	At string `json:"at"`
	// How long it lasts.
	For Duration `json:"for,omitempty" iac:"default=1h"`
	// The fewest replicas meanwhile.
	Min int `json:"min"`
	// Time zone of `at`, such as `Europe/Berlin`. `UTC` unless given.
	TimeZone string `json:"time_zone,omitempty" iac:"optional"`
}

// Pace is how fast the count may move in one direction.
type Pace struct {
	Window, Period time.Duration
	Steps          []Share
}

// ScalePeriod is how often use is measured and the count decided: the period of
// Kubernetes (--horizontal-pod-autoscaler-sync-period).
const ScalePeriod = 15 * time.Second

// The defaults of autoscaling are Kubernetes' own: those of `behavior`, and
// --horizontal-pod-autoscaler-tolerance.
var (
	defaultTolerance = Share{Amount: 10, Percent: true, Given: true}
	defaultUpSteps   = []Share{{Amount: 4, Given: true}, {Amount: 100, Percent: true, Given: true}}
	defaultDownSteps = []Share{{Amount: 100, Percent: true, Given: true}}
)

const (
	defaultDownWindow  = Duration(5 * time.Minute)
	defaultScaleFor    = Duration(time.Hour)
	defaultMetricsPath = "/metrics"
	// The longest window and period are those of Kubernetes' API.
	maxScaleWindow = Duration(time.Hour)
	maxScalePeriod = Duration(30 * time.Minute)
	minScalePeriod = Duration(time.Second)
	maxScaleFor    = Duration(7 * 24 * time.Hour)
)

func (a *Autoscale) setDefaults() {
	setDefault(&a.Tolerance, defaultTolerance)
	if a.Up != nil {
		setDefault(&a.Up.Period, Duration(ScalePeriod))
	}
	if a.Down != nil {
		setDefault(&a.Down.Period, Duration(ScalePeriod))
	}
	for i := range a.Schedules {
		setDefault(&a.Schedules[i].For, defaultScaleFor)
	}
}

// UpPace is how fast replicas are added.
func (a *Autoscale) UpPace() Pace {
	p := Pace{Period: ScalePeriod, Steps: defaultUpSteps}
	if a.Up != nil {
		p.Window, p.Period = time.Duration(a.Up.Window), time.Duration(a.Up.Period)
		if len(a.Up.Steps) > 0 {
			p.Steps = a.Up.Steps
		}
	}
	return p
}

// DownPace is how fast replicas are removed.
func (a *Autoscale) DownPace() Pace {
	p := Pace{Window: time.Duration(defaultDownWindow), Period: ScalePeriod, Steps: defaultDownSteps}
	if a.Down != nil {
		p.Window, p.Period = time.Duration(a.Down.Window), time.Duration(a.Down.Period)
		if len(a.Down.Steps) > 0 {
			p.Steps = a.Down.Steps
		}
	}
	return p
}

// Bound gives the count within min and max.
func (a *Autoscale) Bound(count int) int { return min(max(count, a.Min), a.Max) }

// ToleratedRatio is how far a ratio of use and target may be from 1.
func (a *Autoscale) ToleratedRatio() float64 { return float64(a.Tolerance.Amount) / 100 }

// Inside lists the metrics that the replicas expose themselves.
func (a *Autoscale) Inside() []Metric {
	var inside []Metric
	for _, m := range a.Metrics {
		if m.URL == "" {
			inside = append(inside, m)
		}
	}
	return inside
}

// String names what is measured, as in `queue_length{queue="mail"} of :8080/metrics`.
// Two metrics are the same where their names are.
func (m Metric) String() string {
	var labels []string
	for _, key := range sortedKeys(m.Labels) {
		labels = append(labels, key+"="+strconv.Quote(m.Labels[key]))
	}
	name := m.Name
	if len(labels) > 0 {
		name += "{" + strings.Join(labels, ",") + "}"
	}
	if m.URL != "" {
		return name + " of " + m.URL
	}
	return fmt.Sprintf("%s of :%d%s", name, m.Port, m.PagePath())
}

// PagePath is where a replica exposes the metric.
func (m Metric) PagePath() string {
	if m.Path == "" {
		return defaultMetricsPath
	}
	return m.Path
}

// Target is what the metric should be.
func (m Metric) Target() float64 { return max(m.TargetAverage, m.TargetTotal) }

var (
	metricPattern      = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	metricLabelPattern = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

func (s *Service) validateAutoscale(p *Problems) {
	a := s.Autoscale
	if s.Mode == ModeGlobal {
		p.Addf("autoscale", "goes with mode %q: a global service has as many replicas as nodes fit; remove one of them", ModeReplicated)
	}
	a.validateBounds(p)
	if a.CPU == 0 && a.Memory == 0 && len(a.Metrics) == 0 && len(a.Schedules) == 0 {
		p.Addf("autoscale", "names nothing to follow; give cpu, memory, metrics or schedules")
	}
	a.validateUse(p, "autoscale.cpu", a.CPU)
	a.validateUse(p, "autoscale.memory", a.Memory)
	seen := map[string]int{}
	for i, m := range a.Metrics {
		at := fmt.Sprintf("autoscale.metrics[%d]", i)
		m.validate(p, at)
		if first, found := seen[m.String()]; found {
			p.Addf(at, "is what autoscale.metrics[%d] is already; give each metric one target", first)
		}
		seen[m.String()] = i
	}
	if t := a.Tolerance; !t.Percent || t.Amount > 99 {
		p.Addf("autoscale.tolerance", "is %q; give a percentage from 0%% to 99%%", t)
	}
	up, down := a.UpPace(), a.DownPace()
	up.validate(p, "autoscale.up")
	down.validate(p, "autoscale.down")
	for i, schedule := range a.Schedules {
		schedule.validate(p, fmt.Sprintf("autoscale.schedules[%d]", i), a.Max)
	}
}

func (a *Autoscale) validateBounds(p *Problems) {
	outside := false
	for _, m := range a.Metrics {
		outside = outside || m.URL != ""
	}
	switch {
	case a.Min < 0:
		p.Addf("autoscale.min", "is %d; give 0 or more", a.Min)
	case a.Min == 0 && !outside:
		p.Addf("autoscale.min", "is 0, and replicas that are not there can't show a demand: give at least 1, or a metric with a url, which tells of it from outside (a connection to the virtual IP starts no replica)")
	}
	if a.Max < max(a.Min, 1) {
		p.Addf("autoscale.max", "is %d; give at least %d", a.Max, max(a.Min, 1))
	}
}

// validateUse checks a percentage of what is reserved, which is the limit as well.
func (a *Autoscale) validateUse(p *Problems, at string, percent int) {
	most := 9900 / (100 + a.Tolerance.Amount)
	if percent < 0 || percent > most {
		p.Addf(at, "is %d: a replica gets no more than it reserves, so that more than %d%% with a tolerance of %s would never add one; give a percentage from 1 to %d", percent, most, a.Tolerance, most)
	}
}

func (m Metric) validate(p *Problems, at string) {
	if !metricPattern.MatchString(m.Name) {
		p.Addf(at+".name", "%q is not a metric's name, like http_requests_total", m.Name)
	}
	for _, key := range sortedKeys(m.Labels) {
		if !metricLabelPattern.MatchString(key) {
			p.Addf(at+".labels", "%q is not a label's name; use letters, digits and underscores", key)
		}
	}
	switch {
	case (m.Port == 0) == (m.URL == ""):
		p.Addf(at, "has %s; give port for what each replica exposes, or url for something outside", map[bool]string{true: "neither port nor url", false: "both port and url"}[m.URL == ""])
	case m.URL == "":
		checkPort(p, at+".port", m.Port)
	case m.Path != "":
		p.Addf(at+".path", "goes with port; put it into the url")
	default:
		switch u, err := url.Parse(m.URL); {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			p.Addf(at+".url", "is not an address, like http://queue.example:9090/metrics")
		case u.User != nil:
			p.Addf(at+".url", "carries a user or password, which plan and state would show; give an address that needs none")
		}
	}
	if m.Path != "" && !strings.HasPrefix(m.Path, "/") {
		p.Addf(at+".path", "%q does not begin with /", m.Path)
	}
	switch given := (m.TargetAverage != 0) != (m.TargetTotal != 0); {
	case !given:
		p.Addf(at, "has %s; give exactly one", map[bool]string{true: "neither target_average nor target_total", false: "both target_average and target_total"}[m.TargetAverage == 0])
	case m.TargetAverage < 0:
		p.Addf(at+".target_average", "is %g; give more than 0", m.TargetAverage)
	case m.TargetTotal < 0:
		p.Addf(at+".target_total", "is %g; give more than 0", m.TargetTotal)
	}
}

func (pace Pace) validate(p *Problems, at string) {
	if w := Duration(pace.Window); w < 0 || w > maxScaleWindow {
		p.Addf(at+".window", "is %s; give 0s to %s", w, maxScaleWindow)
	}
	if d := Duration(pace.Period); d < minScalePeriod || d > maxScalePeriod {
		p.Addf(at+".period", "is %s; give %s to %s", d, minScalePeriod, maxScalePeriod)
	}
	for i, step := range pace.Steps {
		if step.Amount == 0 {
			p.Addf(fmt.Sprintf("%s.steps[%d]", at, i), "is %q, which is no step; give 1 or more", step)
		}
	}
}

func (s ScaleSchedule) validate(p *Problems, at string, most int) {
	if _, err := ParseCron(s.At); err != nil {
		p.Addf(at+".at", "%v", err)
	}
	if _, err := time.LoadLocation(s.TimeZone); err != nil || s.TimeZone == "Local" {
		p.Addf(at+".time_zone", "%q is not a time zone, like Europe/Berlin", s.TimeZone)
	}
	if s.For < Duration(time.Minute) || s.For > maxScaleFor {
		p.Addf(at+".for", "is %s; give 1m to %s", s.For, maxScaleFor)
	}
	if s.Min < 1 || s.Min > most {
		p.Addf(at+".min", "is %d; give 1 to %d, which is max", s.Min, most)
	}
}

// Active is true where the schedule has begun and not ended yet.
func (s ScaleSchedule) Active(now time.Time) bool {
	cron, err := ParseCron(s.At)
	if err != nil {
		return false // it was refused
	}
	zone, err := time.LoadLocation(s.TimeZone)
	if err != nil {
		return false // it was refused
	}
	return cron.Within(now.In(zone), time.Duration(s.For))
}

// Count is how many replicas the service is to have now: what the user says, or
// the autoscaler.
func (r *ServiceRecord) Count() int {
	if r.Service.Autoscale == nil || r.Scaled == nil {
		return r.Service.Replicas
	}
	return len(r.Scaled.Slots)
}

// Most is how many replicas the service may ever have.
func (s *Service) Most() int {
	if s.Autoscale != nil {
		return s.Autoscale.Max
	}
	return s.Replicas
}

// Scaled is how many replicas an autoscaled service has: a slot for each. Which
// slot goes is for the scheduler to say, so that their numbers may have gaps.
type Scaled struct {
	// Slots that there are, sorted.
	Slots []int `json:"slots"`
}

// To gives the slots for a count: the lowest free ones are added, the highest
// ones go.
func (s Scaled) To(count int) Scaled {
	taken := map[int]bool{}
	slots := append([]int{}, s.Slots[:min(count, len(s.Slots))]...)
	for _, n := range slots {
		taken[n] = true
	}
	for n := 0; len(slots) < count; n++ {
		if !taken[n] {
			slots = append(slots, n)
		}
	}
	sort.Ints(slots)
	return Scaled{Slots: slots}
}

// Without gives the slots but for one.
func (s Scaled) Without(slot int) Scaled {
	slots := []int{}
	for _, n := range s.Slots {
		if n != slot {
			slots = append(slots, n)
		}
	}
	return Scaled{Slots: slots}
}
