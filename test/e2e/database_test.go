package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// ledger writes numbers into the database, one after the other and without end, and
// keeps those whose commit was acknowledged.
type ledger struct {
	control *client.Server

	mu    sync.Mutex // guards all below
	last  int
	acked []int
	said  error // the last refusal
	stop  context.CancelFunc
	ended chan struct{}
}

// run writes until hold is called.
func (l *ledger) run(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop, l.ended = stop, make(chan struct{})
	go func(ended chan struct{}) {
		defer close(ended)
		for ctx.Err() == nil {
			l.write(ctx)
		}
	}(l.ended)
}

// hold stops the writing.
func (l *ledger) hold() {
	l.mu.Lock()
	stop, ended := l.stop, l.ended
	l.mu.Unlock()
	stop()
	<-ended
}

func (l *ledger) write(ctx context.Context) {
	l.mu.Lock()
	l.last++
	n := l.last
	l.mu.Unlock()
	_, err := l.query(ctx, "create table if not exists rows (n int)", fmt.Sprintf("insert into rows values (%d)", n))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said = err; err == nil {
		l.acked = append(l.acked, n)
	}
}

// answerTime is how long a statement may take before nobody waits for it.
const answerTime = 5 * time.Second

// query asks the replica that there is.
func (l *ledger) query(ctx context.Context, statements ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	status, err := l.control.Service(ctx, "db")
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(status.Replicas, func(r resources.ReplicaSummary) bool { return r.Wanted && r.Status.State == resources.ReplicaRunning })
	if at < 0 {
		return "", errors.New("no replica runs")
	}
	var out, problems bytes.Buffer
	code, err := l.control.Exec(ctx, status.Replicas[at].ID, resources.Command{Args: append([]string{"/start"}, statements...)}, resources.Streams{Out: &out, Err: &problems})
	if err == nil && code != 0 {
		err = fmt.Errorf("code %d: %s", code, problems.String())
	}
	return out.String(), err
}

// writes returns once more rows were acknowledged.
func (l *ledger) writes(t *testing.T) {
	t.Helper()
	before := len(l.rows())
	eventually(t, "more rows are acknowledged", func() (string, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Sprint(l.said), len(l.acked) > before+1
	})
}

func (l *ledger) rows() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.acked)
}

// check expects all rows that were acknowledged, each once. There may be others,
// whose answer was lost.
func (l *ledger) check(t *testing.T) {
	t.Helper()
	want := l.rows()
	out, err := l.query(t.Context(), "select n from rows")
	if err != nil {
		t.Fatal(err)
	}
	there := map[int]int{}
	for line := range strings.FieldsSeq(out) {
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		there[n]++
	}
	for _, n := range want {
		if there[n] != 1 {
			t.Errorf("row %d is there %d times, and was acknowledged", n, there[n])
		}
	}
	t.Logf("%d rows were acknowledged, and %d are there", len(want), len(there))
}

// databasePassword is what nobody but the database's replicas is to know.
const databasePassword = "correct-horse-battery-staple"

// A database, as users have it: its data on a volume and its password in a secret.
const databaseConfiguration = `
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [%[1]s]
  workers = [%[2]s]
}
resource "skerry_volume" "data" {
  cluster           = skerry_cluster.home.endpoint
  name              = "data"
  size              = "256MiB"
  constraints       = [%[4]q]
  retain_on_destroy = false
}
resource "skerry_secret" "password" {
  cluster = skerry_cluster.home.endpoint
  name    = "password"
  value   = %[6]q
}
resource "skerry_image" "postgres" {
  cluster = skerry_cluster.home.endpoint
  name    = "postgres"
  archive = %[3]q
}
resource "skerry_service" "db" {
  cluster     = skerry_cluster.home.endpoint
  name        = "db"
  image       = skerry_image.postgres.reference
  resources   = { cpu = "100m", memory = "256MiB" }
  stop_signal = "SIGINT"
  env         = { POSTGRES_PASSWORD_FILE = "/run/secrets/password", GREETING = %[5]q }
  mounts      = [{ volume = skerry_volume.data.name, path = "/var/lib/postgresql/data" }]
  secrets     = [{ secret = skerry_secret.password.name }]
  health = {
    startup   = { exec = { command = ["/start", "select 1"] }, interval = "1s", timeout = "10s", failure_threshold = 120 }
    readiness = { exec = { command = ["/start", "select 1"] }, interval = "2s", timeout = "10s" }
  }
}
`

// What a real database lives through: every row whose commit it has acknowledged is
// there each time, though rows are written all the while.
func TestDatabase(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 2)
	archive := images.PostgresArchive(t, "../../build")
	text := func(greeting string) string {
		return fmt.Sprintf(databaseConfiguration, testbed.Endpoints(hosts[0].Host), testbed.Endpoints(hosts[1].Host), archive,
			"node.id == "+string(hosts[1].Node(t)), greeting, databasePassword)
	}
	tf := NewTerraform(t, bin, text("hello"))
	tf.Apply(t)
	tf.Settled(t)
	l := &ledger{control: controlOf(t, hosts[0])}
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if t.Failed() {
			return
		}
		t.Run(name, func(t *testing.T) {
			l.run(t)
			defer l.hold()
			l.writes(t)
			f(t)
			tf.Apply(t) // waits until the database is ready
			l.writes(t)
			l.check(t)
		})
	}

	step("the container is killed", func(t *testing.T) {
		for _, id := range hosts[1].containers(t, "db") {
			if out, err := hosts[1].Podman.Podman(t.Context(), "kill", "--signal=KILL", id).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	})
	step("the agent is killed", func(t *testing.T) {
		hosts[1].End(os.Kill)
		hosts[1].Start(t)
	})
	step("the node loses power", func(t *testing.T) {
		hosts[1].PowerOff(t)
		hosts[1].PowerOn(t)
	})
	step("a rollout", func(t *testing.T) { tf.Configure(t, text("changed")) })
	step("the service is destroyed and made again", func(t *testing.T) {
		tf.Run(t, "destroy", "-auto-approve", "-no-color", "-target=skerry_service.db")
		if left := hosts[1].containers(t, "db"); len(left) > 0 {
			t.Errorf("containers after the destroy: %v", left)
		}
	})
	if t.Failed() {
		return
	}
	file := filepath.Join(t.TempDir(), "data.tar.zst")
	hosts[0].says(t, []string{"volume", "backup", "data", file, "--pause"}, "volume data is in "+file)
	tf.Destroy(t)
	if _, err := os.Stat(filepath.Join(hosts[1].Dir, "data", "volumes", "data")); !os.IsNotExist(err) {
		t.Fatalf("the data is there after the destroy: %v", err)
	}
	tf.Apply(t)
	if out, err := l.query(t.Context(), "select n from rows"); err == nil {
		t.Errorf("a new database has rows: %s", out)
	}
	hosts[0].says(t, []string{"volume", "restore", "data", file}, "volume data has the data of data from")
	tf.Apply(t)
	eventually(t, "the database answers after the restore", func() (string, bool) {
		out, err := l.query(t.Context(), "select count(*) from rows")
		return fmt.Sprint(out, err), err == nil
	})
	l.check(t)
	tf.Destroy(t)
}
