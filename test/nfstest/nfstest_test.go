package nfstest_test

import (
	"context"
	"net"
	"os/exec"
	"testing"

	"github.com/skerry-io/skerry/test/nfstest"
	"github.com/skerry-io/skerry/test/podmantest"
)

// What a client sees of it takes a kernel that has one: test/e2e mounts it from VMs.
func TestItListens(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root; left out by -short")
	}
	const namespace = "skerry-nfstest"
	for _, args := range [][]string{{"netns", "add", namespace}, {"-n", namespace, "link", "set", "lo", "up"}} {
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", namespace).Run() }) //nolint:errcheck // it is the test's own
	path := "/run/netns/" + namespace
	nfstest.Start(t, path, func(ctx context.Context, network, address string) (connected net.Conn, err error) {
		err = podmantest.InNamespace(path, func() error {
			connected, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return connected, err
	})
}
