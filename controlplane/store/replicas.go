package store

import (
	"hash/maphash"
	"iter"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// Replicas is the replicas of a State by their IDs, as a map is, but for one
// thing: a changed copy shares all that is the same with the original. There
// may be a hundred thousand, and every change of one makes a new State.
//
// They lie in buckets by the hash of their ID. A copy shares the buckets, and
// copies the ones that it changes.
type Replicas struct {
	buckets []*bucket
	length  int
	// owner marks the buckets that are this copy's own; nil owns none, not even
	// the list of buckets.
	owner *owner
}

// owner is told apart from others by its address.
type owner struct{ _ byte }

type bucket struct {
	owner   *owner
	entries []entry
}

// entry is a replica, which is never changed, with the hash of its ID and the
// version of its key.
type entry struct {
	hash    uint64
	replica *resources.Replica
	version int64
}

// bucketSize is how many replicas a bucket has on average, at most: so few that
// looking through them is as fast as anything.
const bucketSize = 8

var seed = maphash.MakeSeed()

// Len is the number of replicas.
func (r Replicas) Len() int { return r.length }

// Get returns a replica, or the zero value where there is none.
func (r Replicas) Get(id resources.ReplicaID) resources.Replica {
	found, _ := r.Find(id)
	return found
}

// Find returns a replica, and whether it is there.
func (r Replicas) Find(id resources.ReplicaID) (resources.Replica, bool) {
	if e := r.entry(id); e != nil {
		return *e.replica, true
	}
	return resources.Replica{}, false
}

// Version is the revision of the store at which a replica was written last; zero
// where there is none.
func (r Replicas) Version(id resources.ReplicaID) int64 {
	if e := r.entry(id); e != nil {
		return e.version
	}
	return 0
}

// All gives all replicas, in no order. They are shared: what is pointed to is
// not to be written.
func (r Replicas) All() iter.Seq2[resources.ReplicaID, *resources.Replica] {
	return func(yield func(resources.ReplicaID, *resources.Replica) bool) {
		for _, b := range r.buckets {
			if b == nil {
				continue
			}
			for _, e := range b.entries {
				if !yield(e.replica.ID, e.replica) {
					return
				}
			}
		}
	}
}

func (r Replicas) entry(id resources.ReplicaID) *entry {
	if r.length == 0 {
		return nil
	}
	hash := hashOf(id)
	if b := r.buckets[r.at(hash)]; b != nil {
		if i := b.find(hash, id); i >= 0 {
			return &b.entries[i]
		}
	}
	return nil
}

func hashOf(id resources.ReplicaID) uint64 { return maphash.String(seed, string(id)) }

// at is the index of the bucket of a hash. There are 2^n of them.
func (r Replicas) at(hash uint64) int { return int(hash & uint64(len(r.buckets)-1)) }

// find gives the index of a replica in the bucket, or -1.
func (b *bucket) find(hash uint64, id resources.ReplicaID) int {
	return slices.IndexFunc(b.entries, func(e entry) bool { return e.hash == hash && e.replica.ID == id })
}

// share returns a copy that owns nothing yet.
func (r Replicas) share() Replicas { return Replicas{buckets: r.buckets, length: r.length} }

// put sets a replica and its version, or removes it where replica is nil.
func (r *Replicas) put(id resources.ReplicaID, replica *resources.Replica, version int64) {
	if r.owner == nil {
		r.owner, r.buckets = &owner{}, slices.Clone(r.buckets)
	}
	if len(r.buckets) == 0 || replica != nil && r.length >= bucketSize*len(r.buckets) {
		r.grow()
	}
	hash := hashOf(id)
	at := r.at(hash)
	b := r.buckets[at]
	switch {
	case b == nil:
		b = &bucket{owner: r.owner}
		r.buckets[at] = b
	case b.owner != r.owner:
		b = &bucket{owner: r.owner, entries: slices.Clone(b.entries)}
		r.buckets[at] = b
	}
	i := b.find(hash, id)
	switch {
	case replica == nil && i >= 0:
		b.entries = slices.Delete(b.entries, i, i+1)
		r.length--
	case replica != nil && i >= 0:
		b.entries[i] = entry{hash, replica, version}
	case replica != nil:
		b.entries = append(b.entries, entry{hash, replica, version})
		r.length++
	}
}

// grow doubles the buckets.
func (r *Replicas) grow() {
	old := r.buckets
	r.buckets = make([]*bucket, max(16, 2*len(old)))
	for _, b := range old {
		if b == nil {
			continue
		}
		for _, e := range b.entries {
			at := r.at(e.hash)
			if r.buckets[at] == nil {
				r.buckets[at] = &bucket{owner: r.owner}
			}
			r.buckets[at].entries = append(r.buckets[at].entries, e)
		}
	}
}
