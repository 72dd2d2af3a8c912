package resources

// NodeSeed is what a new node is told at its first boot, in the file skerry.json
// of its seed disk.
type NodeSeed struct {
	ID             NodeID            `json:"id"`
	Name           string            `json:"name"`
	Labels         map[string]string `json:"labels,omitempty"`
	Taints         []string          `json:"taints,omitempty"`
	AuthorizedKeys []string          `json:"authorized_keys"`
	// HostKey is the private SSH host key (ed25519, OpenSSH's PEM), or empty
	// where the data disk has the node's key already.
	HostKey string `json:"host_key,omitempty"`
	// DataDisk is true where the node has a second disk for what outlives it.
	DataDisk bool `json:"data_disk,omitempty"`
	// Cards are the network cards with a static address.
	Cards []SeedCard `json:"cards,omitempty"`
}

// SeedCard is a network card with a static address.
type SeedCard struct {
	MAC     string   `json:"mac"`
	Address string   `json:"address"`
	Gateway string   `json:"gateway,omitempty"`
	DNS     []string `json:"dns,omitempty"`
}

// NodeFile is what a node keeps of itself on its data disk, in node.json.
type NodeFile struct {
	ID             NodeID            `json:"id"`
	Name           string            `json:"name"`
	Labels         map[string]string `json:"labels,omitempty"`
	Taints         []string          `json:"taints,omitempty"`
	AuthorizedKeys []string          `json:"authorized_keys"`
	// Found is true for a machine that was there before skerry, which leaves
	// alone who may log in to it, and can be taken off it again.
	Found bool `json:"found,omitempty"`
}

// The serial numbers by which a node knows its disks.
const (
	RootSerial = "skerry-root"
	DataSerial = "skerry-data"
	SeedSerial = "skerry-seed"
)
