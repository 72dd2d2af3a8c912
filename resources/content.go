package resources

import (
	"log/slog"
	"strconv"
	"time"
)

// Sensitive is what nobody sees by accident: it prints as a word.
type Sensitive []byte

func (Sensitive) String() string { return "(sensitive)" }

// GoString is what %#v prints.
func (s Sensitive) GoString() string { return s.String() }

// LogValue is what logs have of it.
func (s Sensitive) LogValue() slog.Value { return slog.StringValue(s.String()) }

// SecretContent names what is in a secret.
func SecretContent(secret string) string { return "secret/" + secret }

// ConfigContent names what is in a config.
func ConfigContent(config string) string { return "config/" + config }

// ContentVersion names one version of a content, as in "secret/db/3".
func ContentVersion(content string, number int) string { return content + "/" + strconv.Itoa(number) }

// ContentNumbers say which version of each secret and config a revision has, by
// SecretContent and ConfigContent.
type ContentNumbers map[string]int

// Versions are the names of the versions.
func (n ContentNumbers) Versions() []string {
	var all []string
	for _, content := range sortedKeys(n) {
		all = append(all, ContentVersion(content, n[content]))
	}
	return all
}

// ContentRecord is a version of a content as the control plane stores it.
type ContentRecord struct {
	// Version is its name; see ContentVersion.
	Version string `json:"version"`
	// Key is the ID of the key that it is sealed with.
	Key    string `json:"key"`
	Sealed []byte `json:"sealed"`
}

// Content is a version of a content on its way to the node that needs it, or kept
// there: in the clear or sealed with a key of the node's own, never both.
type Content struct {
	Version string    `json:"version"`
	Value   Sensitive `json:"value,omitempty"`
	Sealed  []byte    `json:"sealed,omitempty"`
}

// SealingKey is a key that the contents of a cluster are sealed with. Every server
// has it in a file of its own, and the store never.
type SealingKey struct {
	ID     string    `json:"id"`
	Secret Sensitive `json:"secret"`
	Made   time.Time `json:"made"`
}

// KeyState is the lifecycle of a sealing key.
type KeyState string

// The states of a sealing key.
const (
	KeyNext    KeyState = "next"    // on its way to the servers; nothing is sealed with it
	KeyCurrent KeyState = "current" // every server has it, and what is sealed now is with it
	KeyOld     KeyState = "old"     // something may be sealed with it still
)

// KeyRecord is a sealing key as the store knows it: by its ID only.
type KeyRecord struct {
	ID    string   `json:"id"`
	State KeyState `json:"state"`
}

// Keyring is keys on their way from one server to another, or into a snapshot.
type Keyring struct {
	Keys []SealingKey `json:"keys"`
	// Drop are the IDs of those that nothing is sealed with any more.
	Drop []string `json:"drop,omitempty"`
}

// Rotation is what became of a change of the sealing key.
type Rotation struct {
	// Key is the ID of the new one, and Resealed how many contents are sealed with it
	// that were not before.
	Key      string `json:"key"`
	Resealed int    `json:"resealed"`
	// Late are the names of servers that keep an old key, since they did not answer.
	Late []string `json:"late,omitempty"`
}
