package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/skerry-io/skerry/resources"
)

// A store that is full refuses a write, makes room by itself and takes the next
// ones. What was acknowledged is there.
func TestFullStoreMakesRoom(t *testing.T) {
	t.Parallel()
	run, err := os.MkdirTemp("", "skerry") //nolint:usetesting // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) }) //nolint:errcheck // a directory in the temporary directory
	e, err := OpenEtcd(t.Context(), Member{Dir: t.TempDir(), Run: run, quota: 8 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	put := func(revision int) error {
		state, err := e.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		record := resources.ServiceRecord{Service: resources.Service{Name: "web"}, Revision: revision}
		record.Service.Env = map[string]string{"TEXT": strings.Repeat("x", 512<<10)}
		return e.Commit(ctx, state, []Change{PutService(record)})
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	written, refused := 0, 0
	for refused == 0 || written < 20 || len(e.alarms()) > 0 { // 10 MiB, of which the last is kept
		switch err := put(written + 1); {
		case err == nil:
			written++
		case errors.Is(err, rpctypes.ErrNoSpace):
			refused++
			state, err := e.Load(ctx)
			if err != nil {
				t.Fatal(err)
			}
			// etcd refuses the first one that is too much after it has written it.
			if got := state.Services["web"].Revision; got != written && got != written+1 {
				t.Fatalf("revision %d of %d", got, written)
			}
			written = state.Services["web"].Revision
			<-tick.C
		default:
			t.Fatal(err)
		}
	}
}

func TestFragmented(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name string
		file fileSize
		full bool
		want bool
	}{
		{"small", fileSize{60 * mib, 1 * mib, 2048 * mib}, false, false},
		{"mostly free", fileSize{100 * mib, 49 * mib, 2048 * mib}, false, true},
		{"mostly used", fileSize{100 * mib, 51 * mib, 2048 * mib}, false, false},
		{"near its quota", fileSize{1700 * mib, 1500 * mib, 2048 * mib}, false, true},
		{"near its quota, and used", fileSize{1700 * mib, 1600 * mib, 2048 * mib}, false, false},
		{"full", fileSize{30 * mib, 20 * mib, 32 * mib}, true, true},
		{"full of what is used", fileSize{30 * mib, 29 * mib, 32 * mib}, true, false},
	} {
		if got := test.file.fragmented(test.full); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}

// One member has its turn at a time, and each has one.
func TestTurns(t *testing.T) {
	members := []uint64{30, 10, 20}
	var order []string
	for minute := range 4 {
		now := time.Unix(int64(minute)*60+59, 0)
		for _, m := range []uint64{10, 20, 30, 40} {
			if isTurn(now, m, members) {
				order = append(order, fmt.Sprint(minute, ":", m))
			}
		}
	}
	if got := strings.Join(order, " "); got != "0:10 1:20 2:30 3:10" {
		t.Errorf("turns: %s", got)
	}
	if isTurn(time.Unix(0, 0), 1, nil) {
		t.Error("a member that is none has a turn")
	}
}
