package links

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// setSysctl sets one of the kernel's settings for the present network namespace,
// where that differs. One that the kernel lacks, as IPv6's without IPv6, is left
// out.
func setSysctl(name, value string) error {
	path := "/proc/sys/" + name
	there, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && strings.TrimSpace(string(there)) == value:
		return nil
	case err == nil:
		err = os.WriteFile(path, []byte(value), 0)
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", strings.ReplaceAll(name, "/", "."), err)
	}
	return nil
}

// forward lets the node pass packets on.
func forward() error { return setSysctl("net/ipv4/ip_forward", "1") }

// setInterface makes an interface fit for what passes on it: packets to loopback
// may be led elsewhere (a published port at 127.0.0.1), those of another
// interface's network may come, and nobody is told of shorter ways.
func setInterface(name string) error {
	conf := "net/ipv4/conf/" + name + "/"
	return errors.Join(setSysctl(conf+"route_localnet", "1"), setSysctl(conf+"rp_filter", "2"), setSysctl(conf+"send_redirects", "0"))
}
