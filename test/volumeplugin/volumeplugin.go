// Package volumeplugin gives a test a volume plugin for any number of Podmans: a
// server of Docker's protocol for those, whose volumes are directories. As others
// do, it removes the data with the volume.
package volumeplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// Plugin is a running plugin.
type Plugin struct {
	// Socket is the path of its socket, and Dir where its volumes are, by name.
	Socket, Dir string

	mu      sync.Mutex // guards all below
	options map[string]map[string]string
	calls   []string
}

// request is what all calls send.
type request struct {
	Name string
	Opts map[string]string
}

type volume struct {
	Name       string
	Mountpoint string
}

// answer is what all calls answer, as docs.docker.com/engine/extend/plugins_volume says.
type answer struct {
	Implements   []string `json:",omitempty"`
	Mountpoint   string   `json:",omitempty"`
	Volume       *volume  `json:",omitempty"`
	Volumes      []volume `json:",omitempty"`
	Capabilities any      `json:",omitempty"`
	Err          string
}

// Start starts a plugin, which goes with the test.
func Start(t testing.TB) *Plugin {
	t.Helper()
	dir, err := os.MkdirTemp("", "plugin-") //nolint:usetesting // the path of a unix socket is short
	if err != nil {
		t.Fatal(err)
	}
	p := &Plugin{Socket: filepath.Join(dir, "plugin.sock"), Dir: filepath.Join(dir, "volumes"), options: map[string]map[string]string{}}
	listener, err := net.Listen("unix", p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{call}", p.serve)
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() {
		server.Serve(listener) //nolint:errcheck // it is closed
		close(served)
	}()
	t.Cleanup(func() {
		server.Close() //nolint:errcheck // its callers have gone
		<-served
		os.RemoveAll(dir) //nolint:errcheck // a directory in the temporary directory
	})
	return p
}

// Calls are all that were made of a kind, such as "VolumeDriver.Create rows".
func (p *Plugin) Calls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// Options are those that a volume was made with.
func (p *Plugin) Options(name string) map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.options[name]
}

func (p *Plugin) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var asked request
	json.NewDecoder(r.Body).Decode(&asked) //nolint:errcheck // some calls send nothing
	call := r.PathValue("call")
	p.calls = append(p.calls, call+" "+asked.Name)
	said, err := p.do(call, asked)
	if err != nil {
		said.Err = err.Error()
		w.WriteHeader(http.StatusInternalServerError)
	}
	json.NewEncoder(w).Encode(said) //nolint:errcheck // the caller may have gone
}

func (p *Plugin) do(call string, asked request) (answer, error) {
	at := filepath.Join(p.Dir, asked.Name)
	_, found := p.options[asked.Name]
	switch call {
	case "Plugin.Activate":
		return answer{Implements: []string{"VolumeDriver"}}, nil
	case "VolumeDriver.Capabilities":
		return answer{Capabilities: map[string]string{"Scope": "global"}}, nil
	case "VolumeDriver.List":
		said := answer{}
		for name := range p.options {
			said.Volumes = append(said.Volumes, volume{name, filepath.Join(p.Dir, name)})
		}
		return said, nil
	case "VolumeDriver.Create":
		if found {
			return answer{}, nil
		}
		p.options[asked.Name] = asked.Opts
		return answer{}, os.MkdirAll(at, 0o755)
	}
	if !found {
		return answer{}, fmt.Errorf("there is no volume %s", asked.Name)
	}
	switch call {
	case "VolumeDriver.Get":
		return answer{Volume: &volume{asked.Name, at}}, nil
	case "VolumeDriver.Mount", "VolumeDriver.Path":
		return answer{Mountpoint: at}, nil
	case "VolumeDriver.Unmount":
		return answer{}, nil
	case "VolumeDriver.Remove":
		delete(p.options, asked.Name)
		return answer{}, os.RemoveAll(at)
	}
	return answer{}, errors.New("there is no call " + call)
}
