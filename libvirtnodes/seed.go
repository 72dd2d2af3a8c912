package libvirtnodes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"strings"

	"github.com/kdomanski/iso9660"

	"github.com/skerry-io/skerry/resources"
)

// seedLabel is the volume label by which cloud-init's NoCloud source, and the
// node image's own unit, find the seed disk.
const seedLabel = "cidata"

// seedFile is one file of the seed disk. The names are those of NoCloud, with
// skerry and skerry.json beside them.
type seedFile struct {
	name    string
	content []byte
}

// seedFiles gives the files of a node's seed disk, but for the program.
// hostKey is empty where the data disk has the node's key already.
func seedFiles(s *Spec, hostKey string) ([]seedFile, error) {
	seed := resources.NodeSeed{
		ID: s.ID, Name: s.Name, Labels: s.Labels, Taints: s.Taints, AuthorizedKeys: s.LoginKeys,
		HostKey: hostKey, DataDisk: s.DataDisk != nil,
	}
	for i, card := range s.cards() {
		if card.Address != "" {
			seed.Cards = append(seed.Cards, resources.SeedCard{MAC: MAC(s.ID, i), Address: card.Address, Gateway: card.Gateway, DNS: card.DNS})
		}
	}
	config, err := json.MarshalIndent(seed, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the seed of %s: %w", s.Name, err)
	}
	userData, err := userData(s)
	if err != nil {
		return nil, err
	}
	return []seedFile{
		{"meta-data", fmt.Appendf(nil, "instance-id: %s\nlocal-hostname: %s\n", s.ID, s.Name)},
		{"network-config", networkConfig(s)},
		{"skerry.json", append(config, '\n')},
		{"user-data", userData},
	}, nil
}

// cloudConfig hands a stock cloud image over to skerry. The image's own host
// keys are kept until firstboot has put the node's in their place.
const cloudConfig = `#cloud-config
hostname: %s
preserve_hostname: false
disable_root: false
ssh_deletekeys: false
ssh_genkeytypes: [ed25519]
growpart: {mode: auto, devices: [/]}
runcmd:
  - mkdir -p /run/skerry/seed
  - mountpoint -q /run/skerry/seed || mount -o ro LABEL=cidata /run/skerry/seed
  - /run/skerry/seed/skerry firstboot --seed /run/skerry/seed
`

func userData(s *Spec) ([]byte, error) {
	own := fmt.Sprintf(cloudConfig, s.Name)
	if s.UserData == "" {
		return []byte(own), nil
	}
	var out bytes.Buffer
	parts := multipart.NewWriter(&out)
	if err := parts.SetBoundary("skerry-" + string(s.ID)); err != nil {
		return nil, fmt.Errorf("write the user data of %s: %w", s.Name, err)
	}
	fmt.Fprintf(&out, "Content-Type: multipart/mixed; boundary=%q\r\nMIME-Version: 1.0\r\n\r\n", parts.Boundary())
	// A merge of lists, so that neither runcmd hides the other.
	header := textproto.MIMEHeader{"Content-Type": {"text/cloud-config"}, "Merge-Type": {"list(append)+dict(recurse_array)+str()"}}
	for _, text := range []string{s.UserData, own} {
		part, err := parts.CreatePart(header)
		if err == nil {
			_, err = part.Write([]byte(text))
		}
		if err != nil {
			return nil, fmt.Errorf("write the user data of %s: %w", s.Name, err)
		}
	}
	if err := parts.Close(); err != nil {
		return nil, fmt.Errorf("write the user data of %s: %w", s.Name, err)
	}
	return out.Bytes(), nil
}

// networkConfig is cloud-init's network configuration, version 2.
func networkConfig(s *Spec) []byte {
	var b strings.Builder
	b.WriteString("version: 2\nethernets:\n")
	for i, card := range s.cards() {
		fmt.Fprintf(&b, "  card%d:\n    match: {macaddress: %q}\n", i, MAC(s.ID, i))
		if card.Address == "" {
			b.WriteString("    dhcp4: true\n    dhcp-identifier: mac\n")
			continue
		}
		fmt.Fprintf(&b, "    addresses: [%q]\n", card.Address)
		if card.Gateway != "" {
			// Not "default": cloud-init refuses that word.
			fmt.Fprintf(&b, "    routes: [{to: 0.0.0.0/0, via: %q}]\n", card.Gateway)
		}
		if len(card.DNS) > 0 {
			fmt.Fprintf(&b, "    nameservers: {addresses: [%s]}\n", strings.Join(card.DNS, ", "))
		}
	}
	return []byte(b.String())
}

// seedISO puts the files on an ISO 9660 image.
func seedISO(files []seedFile) ([]byte, error) {
	writer, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("write the seed disk: %w", err)
	}
	defer writer.Cleanup() //nolint:errcheck // a directory in the temporary directory
	for _, file := range files {
		if err := writer.AddFile(bytes.NewReader(file.content), file.name); err != nil {
			return nil, fmt.Errorf("write %s on the seed disk: %w", file.name, err)
		}
	}
	var image bytes.Buffer
	if err := writer.WriteTo(&image, seedLabel); err != nil {
		return nil, fmt.Errorf("write the seed disk: %w", err)
	}
	return image.Bytes(), nil
}
