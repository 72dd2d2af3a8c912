package registry

import (
	"context"
	"io"
	"log/slog"
	"reflect"

	"github.com/sirupsen/logrus"
)

// quiet is a context in which the distribution library logs to our logger, and
// nothing to stderr. Its own key for the logger is private, and its other way is
// the process's one logrus logger, which is not ours alone; so the key is told
// by its type's name. A test sees whether that still holds.
type quiet struct {
	context.Context //nolint:containedctx // it is a context
	logger          *logrus.Entry
}

// Value implements context.Context.
func (q quiet) Value(key any) any {
	if reflect.TypeOf(key).String() == "dcontext.loggerKey" {
		return q.logger
	}
	return q.Context.Value(key)
}

// quietLogger gives the library's logger: warnings and errors go to log at debug
// level, since each refused request is an error there.
func quietLogger(log *slog.Logger) *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.WarnLevel)
	l.AddHook(hook{log})
	return logrus.NewEntry(l)
}

type hook struct{ log *slog.Logger }

func (h hook) Levels() []logrus.Level { return logrus.AllLevels }

func (h hook) Fire(e *logrus.Entry) error {
	attrs := []slog.Attr{}
	for _, k := range []string{"err.code", "err.detail", "error"} {
		if v, ok := e.Data[k]; ok {
			attrs = append(attrs, slog.Any(k, v))
		}
	}
	h.log.LogAttrs(e.Context, slog.LevelDebug, e.Message, attrs...)
	return nil
}
