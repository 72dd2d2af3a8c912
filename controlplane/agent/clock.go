package agent

import (
	"fmt"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// The clock of a node is wrong where it differs from the server's by more than
// maxSkew, and right again at half of that: certificates, logs and events of a
// cluster can't be compared otherwise. No placement depends on a node's clock.
const maxSkew = 2 * time.Second

// compareClocks says whether the node's clock is right, as the server's last
// answer shows.
func (a *Agent) compareClocks() {
	if a.Skew == nil {
		return
	}
	ahead, known := a.Skew()
	if !known {
		return
	}
	a.mu.Lock()
	_, held := a.conditions[resources.ClockSkew]
	a.mu.Unlock()
	a.setCondition(resources.ClockSkew, skewed(ahead, held), time.Now())
}

// skewed says by how much a clock is wrong, or nothing. held is true where it
// was wrong before.
func skewed(ahead time.Duration, held bool) string {
	limit := maxSkew
	if held {
		limit /= 2
	}
	if ahead.Abs() <= limit {
		return ""
	}
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("the clock is %s %s the server's; see `timedatectl` on both", ahead.Abs().Round(100*time.Millisecond), direction)
}
