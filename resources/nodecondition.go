package resources

import "time"

// NodeCondition is something about a node that its user should know, and the
// scheduler may heed. It is there as long as it holds.
type NodeCondition struct {
	Type NodeConditionType `json:"type"`
	// Message is a sentence for people: what was found when it began, and what
	// to do.
	Message string `json:"message"`
	// Since is when it began, by the node's clock.
	Since time.Time `json:"since"`
}

// NodeConditionType is what a NodeCondition is about.
type NodeConditionType string

// The types of conditions.
const (
	// DiskPressure: the disk is nearly full. The node gets no more replicas.
	DiskPressure NodeConditionType = "DiskPressure"
	// ClockSkew: the clock differs from the server's.
	ClockSkew NodeConditionType = "ClockSkew"
	// ForwardDropped: the machine's own packet filter drops what replicas send and
	// get.
	ForwardDropped NodeConditionType = "ForwardDropped"
)

// NodeConditionTypes are all of them, sorted.
var NodeConditionTypes = []NodeConditionType{ClockSkew, DiskPressure, ForwardDropped}

// Has is true where the condition holds on the node.
func (n *NodeInfo) Has(condition NodeConditionType) bool {
	for _, c := range n.Conditions {
		if c.Type == condition {
			return true
		}
	}
	return false
}
