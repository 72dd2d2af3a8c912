package server

import (
	"net/http"
	"testing"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// A node that comes later gets replicas on request: none where it is only
// asked, and never more than one of a service at a time.
func TestRebalance(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s}
		a.join(t, "n1")
		a.put(t, web(4))
		a.live(t, 30*time.Second)
		a.join(t, "n1", "n2")
		a.live(t, 30*time.Second)
		rebalance := func(query string) resources.Rebalance {
			return ask[resources.Rebalance](t, s, http.MethodPost, "/v1/rebalance"+query, nil)
		}
		on := func(id string) int {
			return ask[resources.NodeStatus](t, s, http.MethodGet, "/v1/nodes/"+id, nil).Replicas
		}
		asked := rebalance("?dry")
		if len(asked.Moves) != 2 || asked.Moves[0].From != "n1" || asked.Moves[0].To != "n2" || asked.Moves[0].Reason == "" {
			t.Fatalf("%+v", asked)
		}
		a.live(t, 30*time.Second)
		if n := on("n1"); n != 4 {
			t.Fatalf("though it was only asked, n1 has %d replicas", n)
		}
		left := func() int {
			return ask[resources.ClusterStatus](t, s, http.MethodGet, "/v1/cluster", nil).Rebalance
		}
		if left() != 0 {
			t.Fatal("it was only asked")
		}
		if said := rebalance(""); len(said.Moves) != 2 {
			t.Fatalf("%+v", said)
		}
		// The leader goes on though nobody asks again.
		for range 20 {
			a.live(t, Heartbeat)
			if ready := a.web(t).Ready; ready < 3 {
				t.Fatalf("%d of 4 replicas are ready while they move", ready)
			}
		}
		if left() != 0 || len(a.told(t, "Rebalanced")) != 1 {
			t.Errorf("%d moves are left, and it says %v", left(), a.told(t, "Rebalanced"))
		}
		if on("n1") != 2 || on("n2") != 2 {
			t.Errorf("n1 has %d replicas, and n2 %d", on("n1"), on("n2"))
		}
		if again := rebalance("?dry"); len(again.Moves) != 0 {
			t.Errorf("it is not at rest: %+v", again)
		}
	})
}
