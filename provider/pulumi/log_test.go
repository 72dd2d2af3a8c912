package pulumi

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// What is logged is shown at the resource whose call is the only one.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	l := newLog(slog.NewTextHandler(&out, nil))
	log := slog.New(l).With("hypervisor", "h").WithGroup("image")
	said := func(parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(out.String(), part) {
				t.Errorf("%q is not in %s", part, out.String())
			}
		}
		out.Reset()
	}
	log.Info("downloading", "bytes", 5)
	said(`msg="downloading hypervisor=h image.bytes=5"`, `urn=""`)
	end := l.calls.begin("one")
	log.Warn("slow")
	said("level=WARN", "urn=one")
	endOther := l.calls.begin("two")
	log.Info("whose")
	said(`urn=""`)
	end()
	log.Info("its")
	said("urn=two")
	endOther()
}
