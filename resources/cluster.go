package resources

import "fmt"

// ClusterID names a cluster for ever. It is 16 lower-case hexadecimal digits.
type ClusterID string

// Cluster is the control plane on given nodes.
type Cluster struct {
	// Name of the cluster.
	Name string `json:"name" iac:"replace"`
	// Endpoints of the nodes that run the control plane.
	Servers []string `json:"servers"`
}

// Validate returns every problem with what the user wrote.
func (c *Cluster) Validate() Problems {
	var p Problems
	checkName(&p, "name", c.Name)
	if len(c.Servers) != 1 {
		p.Addf("servers", "has %d endpoints; this version of skerry runs the control plane on exactly 1 node", len(c.Servers))
	}
	for i, server := range c.Servers {
		if _, err := ParseEndpoint(server); err != nil {
			p.Addf(fmt.Sprintf("servers[%d]", i), "%v", err)
		}
	}
	return p
}
