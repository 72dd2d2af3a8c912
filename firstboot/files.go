package firstboot

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// dataDevice is the data disk, by the serial number that the hypervisor gives
// it, and dataMount its line in /etc/fstab. A node without its data disk must
// not run: it would begin anew on the root disk.
const (
	dataDevice = "/dev/disk/by-id/virtio-" + resources.DataSerial
	dataMount  = dataDevice + " " + Data + " ext4 defaults,noatime,x-systemd.device-timeout=60s 0 2"
)

// tree holds the files that are the same on every node, under the paths that
// they have there. The node image has them already.
//
//go:embed node
var tree embed.FS

const treeRoot = "node"

// file is a file of the node's configuration.
type file struct{ path, content string }

// files gives the configuration of a node.
func files(seed resources.NodeSeed, cloudInit bool) ([]file, error) {
	own, err := ownFiles()
	all := append([]file{{"/etc/hostname", seed.Name + "\n"}}, own...)
	if err != nil || cloudInit {
		return all, err
	}
	for i, card := range seed.Cards {
		var b strings.Builder
		fmt.Fprintf(&b, "[Match]\nMACAddress=%s\n\n[Network]\nAddress=%s\n", card.MAC, card.Address)
		if card.Gateway != "" {
			fmt.Fprintf(&b, "Gateway=%s\n", card.Gateway)
		}
		for _, server := range card.DNS {
			fmt.Fprintf(&b, "DNS=%s\n", server)
		}
		all = append(all, file{fmt.Sprintf("/etc/systemd/network/10-skerry-%d.network", i), b.String()})
	}
	return all, nil
}

// ownFiles gives the files that are the same on every node.
func ownFiles() ([]file, error) {
	var all []file
	err := fs.WalkDir(tree, treeRoot, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := tree.ReadFile(path)
		all = append(all, file{strings.TrimPrefix(path, treeRoot), string(content)})
		return err
	})
	return all, err
}

// guestFiles gives those of them that a machine gets which was there before
// skerry: how people log in to it is not skerry's, nor is its kernel.
func guestFiles() ([]file, error) {
	all, err := ownFiles()
	return slices.DeleteFunc(all, func(f file) bool {
		return strings.HasPrefix(f.path, "/etc/ssh/") || strings.HasPrefix(f.path, "/etc/sysctl.d/")
	}), err
}
