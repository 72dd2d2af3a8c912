package pulumi

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/provider"
)

// Log leads to the engine's log: warnings are shown and stay, progress is shown
// while it lasts. Without an engine, all goes to stderr.
type Log struct {
	engine *atomic.Pointer[provider.HostClient]
	stderr slog.Handler
	calls  *calls
	// attributes stand behind each message.
	attributes string
	group      string
}

// calls knows the resources whose calls run.
type calls struct {
	guard sync.Mutex // of what follows
	urns  []string
}

// begin notes a call, until end is called.
func (c *calls) begin(at string) (end func()) {
	c.guard.Lock()
	defer c.guard.Unlock()
	c.urns = append(c.urns, at)
	return func() {
		c.guard.Lock()
		defer c.guard.Unlock()
		if i := slices.Index(c.urns, at); i >= 0 {
			c.urns = slices.Delete(c.urns, i, i+1)
		}
	}
}

// only is the resource whose call is the only one, or empty. What is logged
// without saying for which resource is shown there.
func (c *calls) only() string {
	c.guard.Lock()
	defer c.guard.Unlock()
	if len(c.urns) != 1 {
		return ""
	}
	return c.urns[0]
}

// NewLog returns the log of an engine, which is nil where it comes later; see
// Attach.
func NewLog(engine *provider.HostClient) *Log {
	l := newLog(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l.engine.Store(engine)
	return l
}

func newLog(stderr slog.Handler) *Log {
	return &Log{engine: new(atomic.Pointer[provider.HostClient]), calls: new(calls), stderr: stderr}
}

func (l *Log) attach(address string) error {
	engine, err := provider.NewHostClient(address)
	if err != nil {
		return err
	}
	l.engine.Store(engine)
	return nil
}

// warn shows a warning at a resource.
func (l *Log) warn(ctx context.Context, at, text string) {
	l.tell(ctx, slog.LevelWarn, at, text)
}

func (l *Log) tell(ctx context.Context, level slog.Level, at, text string) {
	ctx = context.WithoutCancel(ctx) // a message is told even where its call is over
	engine := l.engine.Load()
	if engine == nil {
		slog.New(l.stderr).Log(ctx, level, text, "urn", at)
		return
	}
	var err error
	switch {
	case level >= slog.LevelWarn:
		err = engine.Log(ctx, diag.Warning, resource.URN(at), text)
	case level >= slog.LevelInfo:
		err = engine.LogStatus(ctx, diag.Info, resource.URN(at), text)
	default:
		err = engine.Log(ctx, diag.Debug, resource.URN(at), text)
	}
	if err != nil { // an engine that is gone is told nothing
		slog.New(l.stderr).DebugContext(ctx, "the engine takes no message", "message", text, "err", err)
	}
}

// Enabled is slog.Handler's, as are Handle, WithAttrs and WithGroup.
func (l *Log) Enabled(context.Context, slog.Level) bool { return true }

// Handle sends a record to the engine as one line.
func (l *Log) Handle(ctx context.Context, record slog.Record) error {
	var b strings.Builder
	b.WriteString(record.Message)
	b.WriteString(l.attributes)
	record.Attrs(func(a slog.Attr) bool {
		write(&b, l.group, a)
		return true
	})
	l.tell(ctx, record.Level, l.calls.only(), b.String())
	return nil
}

// WithAttrs gives a log whose messages have attributes.
func (l *Log) WithAttrs(attributes []slog.Attr) slog.Handler {
	with := *l
	var b strings.Builder
	for _, a := range attributes {
		write(&b, l.group, a)
	}
	with.attributes += b.String()
	return &with
}

// WithGroup gives a log whose further attributes have a prefix.
func (l *Log) WithGroup(name string) slog.Handler {
	with := *l
	with.group += name + "."
	return &with
}

func write(b *strings.Builder, group string, a slog.Attr) {
	b.WriteString(" " + group + a.Key + "=" + a.Value.Resolve().String())
}

var _ slog.Handler = (*Log)(nil)
