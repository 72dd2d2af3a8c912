package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optdestroy"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/skerry-io/skerry/test/pulumitest"
)

// engine applies programs, and says what it does in words that are the same for
// Terraform and Pulumi.
type engine interface {
	// plan says what an apply would do.
	plan(t *testing.T, p program) report
	// apply ends early, and in order, with its context.
	apply(ctx context.Context, t *testing.T, p program) report
	// adopt forgets a block, and imports it by its ID.
	adopt(t *testing.T, p program, address, id string) report
	destroy(t *testing.T) report
	// text is the state as it is stored.
	text(t *testing.T) string
}

// report is what an engine did, or would do.
type report struct {
	// actions by kind.name: create, update, replace, delete.
	actions map[string]string
	// deletes, in their order.
	deletes []string
	// errors and warnings.
	errors, warnings []string
	failed           bool
	all              string // what was said, for the test's log
}

func (r *report) act(address, action string) {
	if r.actions == nil {
		r.actions = map[string]string{}
	}
	switch was := r.actions[address]; {
	case action == "delete" && was == "create", action == "create" && was == "delete", was == "replace":
		r.actions[address] = "replace"
	default:
		r.actions[address] = action
	}
}

// names that differ by chance: of replicas, nodes, containers.
var chance = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`\b([a-z]+-[0-9]+)-[a-z0-9]{6}\b`), "$1-ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12,64}\b`), "ID"},
	{regexp.MustCompile(`\brevision [0-9]+\b`), "revision N"}, // a service that Terraform has replaced begins anew
	{regexp.MustCompile(`\S*/skerry-dev[0-9]+/\S*`), "PATH"},
	{regexp.MustCompile(`\b[0-9]+(\.[0-9]+)?m?s\b`), "TIME"},
	{regexp.MustCompile(`(?s)Its last log lines:.*`), ""}, // it may be started again meanwhile
	{regexp.MustCompile(`\s+`), " "},
}

// normal gives a message without what differs by chance.
func normal(text string) string {
	for _, c := range chance {
		text = c.pattern.ReplaceAllString(text, c.text)
	}
	return strings.TrimSpace(text)
}

// terraformEngine is Terraform in a directory.
type terraformEngine struct{ *Terraform }

// message is a line of what Terraform says for programs.
type message struct {
	Type   string
	Change struct {
		Resource struct {
			Addr string
		}
		Action string
	}
	Hook struct {
		Resource struct {
			Addr string
		}
		Action string
	}
	Diagnostic struct {
		Severity, Summary, Detail string
	}
}

func (e terraformEngine) read(out string, applied bool) report {
	r := report{all: out}
	for line := range strings.Lines(out) {
		var m message
		if json.Unmarshal([]byte(line), &m) != nil {
			continue
		}
		switch {
		case m.Type == "planned_change" && !applied:
			r.act(strings.TrimPrefix(m.Change.Resource.Addr, "skerry_"), m.Change.Action)
		case m.Type == "apply_start" && applied:
			address := strings.TrimPrefix(m.Hook.Resource.Addr, "skerry_")
			r.act(address, m.Hook.Action)
			if m.Hook.Action == "delete" {
				r.deletes = append(r.deletes, address)
			}
		case m.Type == "diagnostic":
			r.hear(m.Diagnostic.Severity, m.Diagnostic.Summary, m.Diagnostic.Detail)
		}
	}
	return r
}

func (r *report) hear(severity, summary, detail string) {
	if strings.Contains(summary, "dev_overrides") || strings.Contains(summary, "Provider development overrides") {
		return
	}
	summary, _, _ = strings.Cut(summary, ": ") // the attribute's path is in the detail, too
	text := strings.ToLower(summary[:1]) + summary[1:] + ": " + detail
	if strings.HasPrefix(summary, "Invalid ") {
		text = detail
	}
	text = normal(camel(text))
	if severity == "error" {
		r.errors = append(r.errors, text)
	} else {
		r.warnings = append(r.warnings, text)
	}
}

func (e terraformEngine) run(ctx context.Context, t *testing.T, applied bool, args ...string) report {
	t.Helper()
	out, err := e.Command(ctx, args...).CombinedOutput()
	r := e.read(string(out), applied)
	r.failed = err != nil
	return r
}

func (e terraformEngine) plan(t *testing.T, p program) report {
	t.Helper()
	e.Configure(t, p.hcl())
	return e.run(t.Context(), t, false, "plan", "-json")
}

func (e terraformEngine) apply(ctx context.Context, t *testing.T, p program) report {
	t.Helper()
	e.Configure(t, p.hcl())
	return e.run(ctx, t, true, "apply", "-json", "-auto-approve")
}

func (e terraformEngine) adopt(t *testing.T, p program, address, id string) report {
	t.Helper()
	e.Configure(t, p.hcl())
	e.Run(t, "state", "rm", "skerry_"+address)
	e.Run(t, "import", "skerry_"+address, id)
	return e.plan(t, p)
}

func (e terraformEngine) destroy(t *testing.T) report {
	t.Helper()
	return e.run(t.Context(), t, true, "destroy", "-json", "-auto-approve")
}

func (e terraformEngine) text(t *testing.T) string { return e.Run(t, "state", "pull") }

// pulumiEngine is Pulumi with a stack.
type pulumiEngine struct {
	dir     string
	stack   auto.Stack
	program pulumi.RunFunc
}

func newPulumi(t *testing.T) *pulumiEngine {
	t.Helper()
	e := &pulumiEngine{dir: t.TempDir()}
	run := func(ctx *pulumi.Context) error { return e.program(ctx) }
	stack, err := pulumitest.Stack(t.Context(), pulumitest.Options{Root: "../..", Dir: e.dir, Project: "test", Program: run})
	if err != nil {
		t.Fatal(err)
	}
	e.stack = stack
	return e
}

// listener collects what the engine tells while it works.
type listener struct {
	events chan events.EngineEvent
	done   chan struct{}
	report report
}

func listen() *listener {
	l := &listener{events: make(chan events.EngineEvent), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for e := range l.events {
			l.hear(e)
		}
	}()
	return l
}

var pulumiActions = map[apitype.OpType]string{
	apitype.OpCreate: "create", apitype.OpUpdate: "update", apitype.OpDelete: "delete", apitype.OpReplace: "replace",
	apitype.OpCreateReplacement: "replace", apitype.OpDeleteReplaced: "replace", apitype.OpImport: "import",
}

func (l *listener) hear(e events.EngineEvent) {
	switch {
	case e.ResourcePreEvent != nil:
		m := e.ResourcePreEvent.Metadata
		kind, isOurs := strings.CutPrefix(m.Type, "skerry:index:")
		if action := pulumiActions[m.Op]; isOurs && action != "" {
			address := strings.ToLower(kind) + "." + resource.URN(m.URN).Name()
			l.report.act(address, action)
			if m.Op == apitype.OpDelete {
				l.report.deletes = append(l.report.deletes, address)
			}
		}
	case e.DiagnosticEvent != nil && !e.DiagnosticEvent.Ephemeral:
		l.report.said(e.DiagnosticEvent)
	}
}

// hasProblem is what the engine says before what a check has found.
var hasProblem = regexp.MustCompile(`^skerry:index:\w+ resource '\w+' has a problem: `)

// said takes a message of the engine without what the engine puts around it.
func (r *report) said(d *apitype.DiagnosticEvent) {
	text := d.Message
	for _, around := range []string{"<{%reset%}>", "1 error occurred:", "* "} {
		text = strings.ReplaceAll(text, around, "")
	}
	r.all += text
	text = normal(hasProblem.ReplaceAllString(text, ""))
	switch {
	case strings.HasPrefix(text, "update failed"), strings.HasPrefix(text, "resource registration"):
	case d.Severity == "error":
		r.errors = append(r.errors, text)
	case d.Severity == "warning":
		r.warnings = append(r.warnings, text)
	}
}

func (l *listener) end(err error) report {
	<-l.done
	l.report.failed = err != nil
	if err != nil {
		l.report.all += "\n" + err.Error()
	}
	return l.report
}

func (e *pulumiEngine) plan(t *testing.T, p program) report {
	t.Helper()
	e.program = p.pulumi(nil)
	l := listen()
	_, err := e.stack.Preview(t.Context(), optpreview.EventStreams(l.events), optpreview.Refresh())
	return l.end(err)
}

// apply reads what is there first, as Terraform does.
func (e *pulumiEngine) apply(ctx context.Context, t *testing.T, p program) report {
	t.Helper()
	e.program = p.pulumi(nil)
	l := listen()
	_, err := e.stack.Up(ctx, optup.EventStreams(l.events), optup.Refresh())
	return l.end(err)
}

func (e *pulumiEngine) adopt(t *testing.T, p program, address, id string) report {
	t.Helper()
	e.forget(t, address)
	e.program = p.pulumi(map[string]string{address: id})
	l := listen()
	if _, err := e.stack.Up(t.Context(), optup.EventStreams(l.events)); err != nil {
		return l.end(err)
	}
	if r := l.end(nil); !maps.Equal(r.actions, map[string]string{address: "import"}) {
		t.Errorf("the import does %v", r.actions)
	}
	return e.plan(t, p)
}

// forget removes a block from the state.
func (e *pulumiEngine) forget(t *testing.T, address string) {
	t.Helper()
	exported, err := e.stack.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]any
	if err := json.Unmarshal(exported.Deployment, &state); err != nil {
		t.Fatal(err)
	}
	kind, name, _ := strings.Cut(address, ".")
	all, _ := state["resources"].([]any)
	state["resources"] = slices.DeleteFunc(all, func(r any) bool {
		urn := resource.URN(fmt.Sprint(r.(map[string]any)["urn"]))
		return urn.Name() == name && strings.EqualFold(string(urn.Type().Name()), kind)
	})
	if exported.Deployment, err = json.Marshal(state); err == nil {
		err = e.stack.Import(t.Context(), exported)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (e *pulumiEngine) destroy(t *testing.T) report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	l := listen()
	_, err := e.stack.Destroy(ctx, optdestroy.EventStreams(l.events))
	return l.end(err)
}

// text is the state as it lies on the disk: an export would decrypt it.
func (e *pulumiEngine) text(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "state/.pulumi/stacks/test/dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
