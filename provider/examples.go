package provider

import "math/big"

// examples has for each resource what a user may write, as trees of package
// definition; ${home.endpoint} is an attribute of another resource.
var examples = map[string]map[string]any{
	"node": {
		"name":      "one",
		"image":     map[string]any{"source": "build/image/skerry-node-trixie.qcow2"},
		"cpus":      number(4),
		"memory":    "8GiB",
		"disk":      "20GiB",
		"data_disk": map[string]any{"size": "100GiB"},
		"networks":  []any{map[string]any{"bridge": "br0"}},
		"labels":    map[string]any{"room": "cellar"},
	},
	"cluster": {
		"name":    "home",
		"servers": []any{"${one.endpoint}", "${two.endpoint}", "${three.endpoint}"},
		"workers": []any{"${four.endpoint}"},
	},
	"network": {
		"cluster": "${home.endpoint}", "name": "backend", "cidr": "10.40.0.0/16", "internal": true,
	},
	"volume": {
		"cluster": "${home.endpoint}", "name": "database", "constraints": []any{"disk==ssd"},
	},
	"secret": {
		"cluster": "${home.endpoint}", "name": "password", "value": "correct horse battery staple", "version": number(1),
	},
	"config": {
		"cluster": "${home.endpoint}", "name": "settings", "content": "workers = 4\n",
	},
	"image": {
		"cluster": "${home.endpoint}", "name": "web", "archive": "build/web.tar",
	},
	"service": {
		"cluster":   "${home.endpoint}",
		"name":      "web",
		"image":     "docker.io/library/nginx:1.27",
		"replicas":  number(3),
		"env":       map[string]any{"GREETING": "hello"},
		"resources": map[string]any{"cpu": "250m", "memory": "128MiB"},
		"networks":  []any{"${backend.name}"},
		"ports":     []any{map[string]any{"target": number(80), "published": number(8080)}},
		"mounts":    []any{map[string]any{"volume": "${database.name}", "path": "/var/lib/data"}},
		"health": map[string]any{
			"readiness": map[string]any{"http": map[string]any{"port": number(80), "path": "/ready"}, "interval": "5s"},
		},
		"update": map[string]any{"order": "start-first", "on_failure": "rollback"},
	},
}

func number(n int64) *big.Float { return new(big.Float).SetInt64(n) }
