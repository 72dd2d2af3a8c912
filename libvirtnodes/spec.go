package libvirtnodes

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/resources"
)

// Spec is a node as its VM is made.
type Spec struct {
	resources.Node
	ID resources.NodeID
	// Mode is how the VM is run: kvm, qemu, or auto. Virtualization is what the
	// user wrote of it.
	Mode string
	// Program gives the skerry program for an architecture, a GOARCH.
	Program func(arch string) ([]byte, error)
	// LoginKeys are the public keys that may log in: the user's, and the
	// plugin's own.
	LoginKeys []string
}

// cards gives the network cards of the node: those the user named, or the
// default one.
func (s *Spec) cards() []resources.Attachment {
	if len(s.Networks) == 0 {
		return []resources.Attachment{resources.DefaultAttachment}
	}
	return s.Networks
}

// NewID draws the ID of a new machine.
func NewID() resources.NodeID {
	var id [8]byte
	rand.Read(id[:])
	return resources.NodeID(hex.EncodeToString(id[:]))
}

// MAC gives the address of a node's network card. It follows from the ID, so
// that a DHCP lease outlives the VM. 52:54:00 is QEMU's own prefix.
func MAC(id resources.NodeID, card int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", id, card))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}

// newHostKey makes an SSH host key, and gives the private half as a PEM and the
// fingerprint of the public one, `SHA256:...`.
func newHostKey() (private, fingerprint string, err error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make a host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "skerry")
	if err != nil {
		return "", "", fmt.Errorf("make a host key: %w", err)
	}
	sshPublic, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", "", fmt.Errorf("make a host key: %w", err)
	}
	return string(pem.EncodeToMemory(block)), ssh.FingerprintSHA256(sshPublic), nil
}
