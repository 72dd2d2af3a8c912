package resources

import (
	"crypto/sha256"
	"encoding/hex"
)

// Config is a file for the replicas that need it.
type Config struct {
	// Name of the config, by which services take it.
	Name string `json:"name" iac:"replace"`
	// Labels of the config, for people.
	Labels map[string]string `json:"labels,omitempty" iac:"optional"`
}

// ConfigMount is a config in the containers of a service.
type ConfigMount struct {
	// Name of the config.
	Config string `json:"config"`
	FileMount
}

// Validate returns every problem with what the user wrote.
func (c *Config) Validate() Problems {
	var p Problems
	checkName(&p, "name", c.Name)
	return p
}

// ConfigFile is a config with what is in its file.
type ConfigFile struct {
	Config
	Content []byte `json:"content"`
}

// Validate returns every problem with it.
func (c *ConfigFile) Validate() Problems {
	p := c.Config.Validate()
	checkSize(&p, "content", len(c.Content))
	return p
}

// ConfigSum is the SHA-256 of a config's content, in hexadecimal digits.
func ConfigSum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// ConfigRecord is a config as the control plane stores it.
type ConfigRecord struct {
	Config Config `json:"config"`
	// Number of its present content; see SecretRecord.
	Number int `json:"number"`
	// SHA256 of that content, as ConfigSum.
	SHA256 string `json:"sha256"`
	Size   Bytes  `json:"size"`
}

// ConfigStatus is a config for people and plugins.
type ConfigStatus struct {
	Config Config `json:"config"`
	SHA256 string `json:"sha256"`
	Size   Bytes  `json:"size"`
	// Content is told of one that is asked for by its name.
	Content []byte `json:"content,omitempty"`
	// Services that use it, sorted, with the revisions that have its present content.
	Services []ServiceRevision `json:"services,omitempty"`
}
