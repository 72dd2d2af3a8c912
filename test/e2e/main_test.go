package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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
