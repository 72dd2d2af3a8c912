package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry-io/skerry/controlplane/atomicfile"
	"github.com/skerry-io/skerry/resources"
)

// The files of a node, in its data directory. NodeFile says who it is.
const (
	NodeFile        = "node.json"
	clusterFile     = "cluster.json"
	assignmentsFile = "agent/assignments.json"
	networkFile     = "agent/network.json"
	volumesDir      = "volumes"
)

// ErrNoFile says that a node has no file of the kind.
var ErrNoFile = errors.New("there is no such file")

func (a *Agent) path(name string) string { return filepath.Join(a.Data, name) }

func readFile(path string, value any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, ErrNoFile)
	}
	if err == nil {
		err = json.Unmarshal(text, value)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeFile writes a file whole or not at all, for root only.
func writeFile(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = atomicfile.Write(path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// InitNode writes who a node is, where its directory does not say so already,
// and returns what the directory says.
func InitNode(data string, node resources.NodeFile) (resources.NodeFile, error) {
	path := filepath.Join(data, NodeFile)
	var there resources.NodeFile
	err := readFile(path, &there)
	if errors.Is(err, ErrNoFile) {
		return node, writeFile(path, node)
	}
	return there, err
}

// Node reads who a node is.
func Node(data string) (resources.NodeFile, error) {
	var node resources.NodeFile
	if err := readFile(filepath.Join(data, NodeFile), &node); err != nil {
		return node, fmt.Errorf("read who this node is: %w", err)
	}
	return node, nil
}

// PutNode writes who a node is.
func PutNode(data string, node resources.NodeFile) error {
	return writeFile(filepath.Join(data, NodeFile), node)
}

// PutCluster writes which cluster the node is in.
func PutCluster(data string, cluster resources.ClusterConfig) error {
	return writeFile(filepath.Join(data, clusterFile), cluster)
}

// Cluster returns the cluster that the node is in, or false.
func Cluster(data string) (resources.ClusterConfig, bool, error) {
	var cluster resources.ClusterConfig
	err := readFile(filepath.Join(data, clusterFile), &cluster)
	if errors.Is(err, ErrNoFile) {
		return cluster, false, nil
	}
	return cluster, err == nil, err
}

func (a *Agent) writeAuthorizedKeys() error {
	if a.AuthorizedKeys == "" {
		return nil
	}
	a.mu.Lock()
	keys, found := a.node.AuthorizedKeys, a.node.Found
	a.mu.Unlock()
	if found {
		return nil
	}
	text := "# skerry writes this file: change authorized_keys of the node instead.\n" + strings.Join(keys, "\n") + "\n"
	err := os.MkdirAll(filepath.Dir(a.AuthorizedKeys), 0o700)
	if err == nil {
		err = atomicfile.Write(a.AuthorizedKeys, []byte(text))
	}
	if err != nil {
		return fmt.Errorf("write the authorized keys: %w", err)
	}
	return nil
}
