package provider

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

// Who joins reaches the others and they it; what is in the cluster already, what
// does not answer and what stays alone is not asked about.
func TestNeighbours(t *testing.T) {
	infos := []resources.NodeInfo{
		{ID: "a", Name: "member", Cluster: "c", Addresses: []string{"10.0.0.1", "10.1.0.1"}},
		{ID: "b", Name: "other", Cluster: "c", Addresses: []string{"10.0.0.2"}},
		{ID: "n", Name: "new", Addresses: []string{"10.0.0.3"}},
		{}, // does not answer
		{ID: "d", Name: "dev", Addresses: []string{"10.0.0.5"}, Alone: true},
	}
	for of, want := range map[int][]string{0: {"10.0.0.3"}, 1: {"10.0.0.3"}, 2: {"10.0.0.1", "10.0.0.2"}, 3: nil, 4: nil} {
		var got []string
		for _, n := range neighbours(infos, of) {
			got = append(got, n.Address)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("neighbours of %d (-want +got):\n%s", of, diff)
		}
	}
}
