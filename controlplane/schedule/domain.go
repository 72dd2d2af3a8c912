package schedule

// candidate is a node that fits, with its score.
type candidate struct {
	score score
	node  *node
}

// domain is the nodes that have the same values of the labels that replicas are
// spread over; without such labels, all nodes. Its parts are domains of the
// next label, or, at the end, nodes that fit. Both are heaps: the part that is
// to take the next replica comes first.
type domain struct {
	// unlabelled is true where the nodes don't have the label.
	unlabelled bool
	// replicas of the revision on all nodes of the domain, those included that
	// don't fit any more.
	replicas int64
	parts    []*domain
	nodes    []candidate
	// best is the score of the node that comes next.
	best score
}

// domains makes the tree of the nodes that fit the group.
func (g *group) domains() *domain {
	fit := g.buffers.room(len(g.c.nodes), 1+len(g.levels))
	for i, n := range g.c.nodes {
		fit[i] = candidate{unfit, n}
		if g.fits(n.seat) {
			fit[i].score = g.rate(n.seat)
		}
	}
	d := &domain{}
	g.divide(d, fit, g.levels)
	return d
}

// unfit marks a node that can't take a replica while the tree is built.
var unfit = score{high: 1<<64 - 1}

// divide puts the nodes into the domain, by the labels.
func (g *group) divide(d *domain, nodes []candidate, labels []*labelling) {
	for _, n := range nodes {
		d.replicas += int64(g.wanted[n.node.rank])
	}
	if len(labels) == 0 {
		kept := nodes[:0]
		for _, n := range nodes {
			if n.score != unfit {
				kept = append(kept, n)
			}
		}
		d.nodes = kept
		for i := len(kept)/2 - 1; i >= 0; i-- {
			siftNode(kept, i)
		}
		d.refresh()
		return
	}
	label := labels[0]
	for i, bucket := range label.sort(nodes, g.buffers.take(len(nodes))) {
		part := &domain{unlabelled: i == label.values}
		g.divide(part, bucket, labels[1:])
		if !part.empty() {
			d.parts = append(d.parts, part)
		}
	}
	for i := len(d.parts)/2 - 1; i >= 0; i-- {
		siftDomain(d.parts, i)
	}
	d.refresh()
}

// sort puts nodes with the same value together, in the order of its number, into
// a slice of the same length.
func (l *labelling) sort(nodes, into []candidate) [][]candidate {
	sizes := make([]int, l.values+1)
	for _, n := range nodes {
		sizes[l.of[n.node.rank]]++
	}
	buckets := make([][]candidate, len(sizes))
	for i, size := range sizes {
		buckets[i], into = into[:0:size], into[size:]
	}
	for _, n := range nodes {
		b := &buckets[l.of[n.node.rank]]
		*b = append(*b, n)
	}
	return buckets
}

func (d *domain) empty() bool { return len(d.parts) == 0 && len(d.nodes) == 0 }

// next gives the node that takes the next replica, or nil.
func (d *domain) next() *node {
	for len(d.parts) > 0 {
		d = d.parts[0]
	}
	if len(d.nodes) == 0 {
		return nil
	}
	return d.nodes[0].node
}

// placed says that the next node has taken a replica: it has another score now,
// or does not fit any more.
func (d *domain) placed(now score, fits bool) {
	d.replicas++
	if len(d.parts) > 0 {
		d.parts[0].placed(now, fits)
		if d.parts[0].empty() {
			last := len(d.parts) - 1
			d.parts[0] = d.parts[last]
			d.parts = d.parts[:last]
		}
		siftDomain(d.parts, 0)
	} else {
		d.nodes[0].score = now
		if !fits {
			last := len(d.nodes) - 1
			d.nodes[0] = d.nodes[last]
			d.nodes = d.nodes[:last]
		}
		siftNode(d.nodes, 0)
	}
	d.refresh()
}

// refresh takes the best score of the part that comes first.
func (d *domain) refresh() {
	if len(d.parts) > 0 {
		d.best = d.parts[0].best
	} else if len(d.nodes) > 0 {
		d.best = d.nodes[0].score
	}
}

// less orders domains: those with the label, then the one with the fewest
// replicas, then the one with the best node.
func (d *domain) less(other *domain) bool {
	switch {
	case d.unlabelled != other.unlabelled:
		return other.unlabelled
	case d.replicas != other.replicas:
		return d.replicas < other.replicas
	}
	return d.best.less(other.best)
}

// siftNode moves a node down in the heap to where it belongs.
func siftNode(heap []candidate, i int) {
	if i >= len(heap) {
		return
	}
	moved := heap[i]
	for {
		child := 2*i + 1
		if child >= len(heap) {
			break
		}
		if right := child + 1; right < len(heap) && heap[right].score.less(heap[child].score) {
			child = right
		}
		if !heap[child].score.less(moved.score) {
			break
		}
		heap[i] = heap[child]
		i = child
	}
	heap[i] = moved
}

// siftDomain moves a domain down in the heap to where it belongs.
func siftDomain(heap []*domain, i int) {
	if i >= len(heap) {
		return
	}
	moved := heap[i]
	for {
		child := 2*i + 1
		if child >= len(heap) {
			break
		}
		if right := child + 1; right < len(heap) && heap[right].less(heap[child]) {
			child = right
		}
		if !heap[child].less(moved) {
			break
		}
		heap[i] = heap[child]
		i = child
	}
	heap[i] = moved
}
