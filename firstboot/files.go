package firstboot

import (
	"fmt"
	"strings"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/resources"
)

// dataDevice is the data disk, by the serial number that the hypervisor gives
// it, and dataMount its line in /etc/fstab. A node without its data disk must
// not run: it would begin anew on the root disk.
const (
	dataDevice = "/dev/disk/by-id/virtio-" + resources.DataSerial
	dataMount  = dataDevice + " " + Data + " ext4 defaults,noatime,x-systemd.device-timeout=60s 0 2"
)

// file is a file of the node's configuration.
type file struct{ path, content string }

// files gives the configuration of a node.
func files(seed resources.NodeSeed, cloudInit bool) []file {
	all := []file{
		{"/etc/hostname", seed.Name + "\n"},
		{agentUnitPath, agentUnit},
		{"/etc/systemd/system/skerry-server.service", serverUnit},
		{"/etc/containers/registries.conf.d/skerry.conf", registries},
		{"/etc/ssh/sshd_config.d/10-skerry.conf", sshd},
	}
	if cloudInit {
		return all
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
	return all
}

const agentUnitPath = "/etc/systemd/system/skerry-agent.service"

const agentUnit = `[Unit]
Description=skerry agent
After=podman.socket
Requires=podman.socket
RequiresMountsFor=` + Data + `

[Service]
ExecStart=` + program + ` agent
Restart=always
RestartSec=1
RuntimeDirectory=skerry
RuntimeDirectoryPreserve=yes
RuntimeDirectoryMode=0700

[Install]
WantedBy=multi-user.target
`

const serverUnit = `[Unit]
Description=skerry server
RequiresMountsFor=` + Data + `

[Service]
Type=notify
ExecStart=` + program + ` server
Restart=always
RestartSec=1
RuntimeDirectory=skerry
RuntimeDirectoryPreserve=yes
RuntimeDirectoryMode=0700
TimeoutStartSec=5min

[Install]
WantedBy=multi-user.target
`

// registries leads Podman to the cluster's own registry, which the agent serves
// on loopback.
const registries = `[[registry]]
prefix = "` + resources.Registry + `"
location = "` + agent.RegistryAddress + `"
insecure = true
`

const sshd = `HostKey ` + hostKey + `
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
`
