package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/resources"
)

// reportCommand tells where the time of a boot went: seconds since the kernel's
// start at which the units that an agent waits for were up, and what they said.
const reportCommand = `
for unit in basic.target skerry-firstboot.service systemd-networkd.service ssh.service podman.socket skerry-agent.service multi-user.target; do
	systemctl show -p Id -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic --value $unit | tr '\n' ' '
	echo
done | awk '{ printf "%-28s begins %6.2f s, is up %6.2f s\n", $1, $2 / 1e6, $3 / 1e6 }'
journalctl -b -o short-monotonic --no-hostname --no-pager -u skerry-firstboot -u skerry-agent -u systemd-networkd -u ssh
`

// report asks a node where the time of its boot went.
func (b *booter) report(ctx context.Context, e resources.Endpoint) (string, error) {
	key, err := os.ReadFile(b.Key)
	if err != nil {
		return "", fmt.Errorf("log in to the node: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("log in to the node: %w", err)
	}
	address := net.JoinHostPort(e.Host, "22")
	connected, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("log in to the node: %w", err)
	}
	defer context.AfterFunc(ctx, func() { connected.Close() })() //nolint:errcheck // it ends the session
	session, channels, requests, err := ssh.NewClientConn(connected, address, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if shown := ssh.FingerprintSHA256(key); shown != e.HostKey {
				return fmt.Errorf("its host key is %s, not %s", shown, e.HostKey)
			}
			return nil
		},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		connected.Close() //nolint:errcheck // the first error counts
		return "", fmt.Errorf("log in to the node: %w", err)
	}
	machine := ssh.NewClient(session, channels, requests)
	defer machine.Close() //nolint:errcheck // it was read
	shell, err := machine.NewSession()
	if err != nil {
		return "", fmt.Errorf("run a command on the node: %w", err)
	}
	defer shell.Close() //nolint:errcheck // it was read
	out, err := shell.CombinedOutput(reportCommand)
	if err != nil {
		return "", fmt.Errorf("run a command on the node: %w: %s", err, out)
	}
	return string(out), nil
}
