package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// bin is where the built programs are.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	if !testing.Short() {
		if out, err := exec.Command("make", "-s", "-C", "../..", "build").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
			os.Exit(1)
		}
		var err error
		if bin, err = filepath.Abs("../../build/bin"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// eventually returns once a condition holds that nothing tells of. The condition
// says what it saw, too, for the failure.
func eventually(t *testing.T, what string, holds func() (saw string, ok bool)) {
	t.Helper()
	deadline := time.Now().Add(2 * patience)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		saw, ok := holds()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: it does not come about within %s; seen last:\n%s", what, 2*patience, saw)
		}
		<-look.C
	}
}
