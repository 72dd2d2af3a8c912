package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// The keys that contents are sealed with are in files of the servers, and the
// store has their IDs. A new one is made by the leader, and is current once every
// server has it on its disk: what is sealed with it then outlives any of them. Each
// step of that is found in the store, so that another leader goes on with it.

// getKeys gives this server's own keys to another server, or to who may read its
// files.
func (s *Server) getKeys(*http.Request) (any, error) {
	return resources.Keyring{Keys: s.Keys.Keys()}, nil
}

// putKeys takes keys from the leader.
func (s *Server) putKeys(r *http.Request) (any, error) {
	keys, err := api.Body[resources.Keyring](r)
	if err != nil {
		return nil, err
	}
	return nil, s.Keys.Change(keys)
}

const keysPath = "/v1/keys"

// sealing is relate for what is sealed: with the current key, which is made where
// there is none yet.
func (s *Server) sealing(ctx context.Context, change func(state *store.State, key string) ([]store.Change, error)) error {
	if err := s.haveKey(ctx); err != nil {
		return err
	}
	return s.relate(ctx, func(state *store.State) ([]store.Change, error) {
		key, found := keyOf(state, resources.KeyCurrent)
		if !found {
			return nil, errors.New("seal a value: there is no current key")
		}
		return change(state, key)
	})
}

// withKey is sealing where something is to be sealed, and else relate.
func (s *Server) withKey(ctx context.Context, seals bool, change func(state *store.State, key string) ([]store.Change, error)) error {
	if seals {
		return s.sealing(ctx, change)
	}
	return s.relate(ctx, func(state *store.State) ([]store.Change, error) { return change(state, "") })
}

// keyOf finds the key that is in a state; there is one at most, but for old ones.
func keyOf(state *store.State, in resources.KeyState) (string, bool) {
	for _, id := range slices.Sorted(maps.Keys(state.Keys)) {
		if state.Keys[id].State == in {
			return id, true
		}
	}
	return "", false
}

func (s *Server) haveKey(ctx context.Context) error {
	state, err := s.Store.Load(ctx)
	if err != nil {
		return err
	}
	if id, found := keyOf(state, resources.KeyCurrent); found {
		if s.Keys.Has(id) {
			return nil
		}
		return s.fetchKeys(ctx, state)
	}
	s.rotating.Lock()
	defer s.rotating.Unlock()
	_, err = s.introduce(ctx, time.Now())
	return err
}

// rotateKey seals everything with a new key, and forgets the old ones.
func (s *Server) rotateKey(r *http.Request) (any, error) {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	id, err := s.introduce(r.Context(), time.Now())
	if err != nil {
		return nil, err
	}
	rotation, err := s.retire(r.Context())
	rotation.Key = id
	if err == nil {
		s.events.add("cluster/"+s.Cluster.Name, "KeyRotated", fmt.Sprintf("%d values are sealed with the new key", rotation.Resealed), time.Now())
	}
	return rotation, err
}

// introduce makes a new key the current one.
func (s *Server) introduce(ctx context.Context, now time.Time) (string, error) {
	var id, fresh string
	err := s.update(ctx, func(state *store.State) ([]store.Change, error) {
		next, found := keyOf(state, resources.KeyNext)
		if found && s.Keys.Has(next) {
			id = next
			return nil, nil
		}
		if fresh == "" {
			var err error
			if fresh, err = s.Keys.Make(now); err != nil {
				return nil, err
			}
		}
		id = fresh
		changes := []store.Change{store.PutKey(resources.KeyRecord{ID: id, State: resources.KeyNext})}
		if found { // nothing is sealed with it, and its maker is gone
			changes = append(changes, store.DeleteKey(next))
		}
		return changes, nil
	})
	if err != nil {
		// Should the store know of it, the next attempt replaces it.
		return "", errors.Join(err, s.Keys.Change(resources.Keyring{Drop: []string{fresh}}))
	}
	// A server that is recorded from now on fetches the keys of the leader, which
	// has this one.
	state, err := s.Store.Load(ctx)
	if err != nil {
		return "", err
	}
	for _, other := range s.others(state) {
		if err := s.tellKeys(ctx, other, resources.Keyring{Keys: s.Keys.Keys()}); err != nil {
			return "", api.Errorf(http.StatusServiceUnavailable, "a new key is used once every server of the cluster has it, and the one on node %s did not take it: %v; try again when it is back, or take it out of the servers", nodeName(state, other.Node), err)
		}
	}
	return id, s.relate(ctx, func(state *store.State) ([]store.Change, error) {
		changes := []store.Change{store.PutKey(resources.KeyRecord{ID: id, State: resources.KeyCurrent})}
		if old, found := keyOf(state, resources.KeyCurrent); found && old != id {
			changes = append(changes, store.PutKey(resources.KeyRecord{ID: old, State: resources.KeyOld}))
		}
		return changes, nil
	})
}

// resealAtOnce is how much is sealed anew in one write of the store, which takes
// 1.5 MiB.
const resealAtOnce = 512 * resources.KiB

// retire seals what is sealed with old keys with the current one, and forgets
// them. Old keys that a server has which does not answer stay in its file until
// the next rotation.
func (s *Server) retire(ctx context.Context) (resources.Rotation, error) {
	var rotation resources.Rotation
	for more := true; more; {
		count := 0
		err := s.relate(ctx, func(state *store.State) ([]store.Change, error) {
			var changes []store.Change
			var err error
			changes, more, err = s.reseal(state)
			count = len(changes)
			return changes, err
		})
		if err != nil {
			return rotation, err
		}
		rotation.Resealed += count
	}
	var dropped []string
	var state *store.State
	err := s.relate(ctx, func(now *store.State) ([]store.Change, error) {
		var changes []store.Change
		state, dropped = now, nil
		used := map[string]bool{}
		for _, c := range now.Contents {
			used[c.Key] = true
		}
		for _, k := range s.Keys.Keys() {
			if record := now.Keys[k.ID]; !used[k.ID] && (record.State == resources.KeyOld || record.ID == "") {
				dropped = append(dropped, k.ID)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(now.Keys)) {
			if now.Keys[id].State == resources.KeyOld && !used[id] {
				changes = append(changes, store.DeleteKey(id))
			}
		}
		return changes, nil
	})
	if err != nil {
		return rotation, err
	}
	for _, other := range s.others(state) {
		if err := s.tellKeys(ctx, other, resources.Keyring{Drop: dropped}); err != nil {
			rotation.Late = append(rotation.Late, nodeName(state, other.Node))
		}
	}
	return rotation, s.Keys.Change(resources.Keyring{Drop: dropped})
}

// reseal seals some of what is sealed with another key than the current one.
func (s *Server) reseal(state *store.State) (changes []store.Change, more bool, err error) {
	current, found := keyOf(state, resources.KeyCurrent)
	if !found {
		return nil, false, nil
	}
	size := resources.Bytes(0)
	for _, version := range slices.Sorted(maps.Keys(state.Contents)) {
		content := state.Contents[version]
		if content.Key == current {
			continue
		}
		if size += resources.Bytes(len(content.Sealed)); len(changes) > 0 && (size > resealAtOnce || len(changes) == store.BatchSize) {
			return changes, true, nil
		}
		value, err := s.Keys.Open(content)
		if err != nil {
			return nil, false, err
		}
		sealed, err := s.Keys.Seal(current, version, value)
		if err != nil {
			return nil, false, err
		}
		changes = append(changes, store.PutContent(sealed))
	}
	return changes, false, nil
}

// others are the servers but this one, sorted by node.
func (s *Server) others(state *store.State) []resources.ServerAddress {
	return slices.DeleteFunc(addressesOf(state), func(a resources.ServerAddress) bool { return a.Node == s.Self.Node })
}

// keysTimeout bounds a call that carries keys.
const keysTimeout = 10 * time.Second

// tellKeys gives keys to another server.
func (s *Server) tellKeys(ctx context.Context, to resources.ServerAddress, keys resources.Keyring) error {
	text, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	return s.callServer(ctx, to, http.MethodPut, text, nil)
}

// fetchKeys takes the keys of the other servers: a leader without them can't say
// what nodes need.
func (s *Server) fetchKeys(ctx context.Context, state *store.State) error {
	failures := []error{errors.New("fetch the sealing keys, which this server lacks")}
	for _, other := range s.others(state) {
		var keys resources.Keyring
		err := s.callServer(ctx, other, http.MethodGet, nil, &keys)
		if err == nil {
			err = s.Keys.Change(keys)
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	for id, record := range state.Keys {
		if record.State != resources.KeyNext && !s.Keys.Has(id) {
			return errors.Join(append(failures, fmt.Errorf("no server that answers has key %s: restore it from a snapshot, or put all secrets and configs again", id))...)
		}
	}
	return nil
}

func (s *Server) callServer(ctx context.Context, to resources.ServerAddress, method string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+string(to.Node)+keysPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := s.transport(to).RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	return api.ReadAnswer(response, answer)
}

// keepKeys fetches the keys that this server, which leads, lacks, and goes on with
// a rotation that an earlier leader has begun, until both are done or ctx ends.
func (s *Server) keepKeys(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.settleKeys(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.Log.Error("the sealing keys are not as they should be, which is tried again", "err", err)
		pause(ctx, NodeTimeout)
	}
}

func (s *Server) settleKeys(ctx context.Context) error {
	state, err := s.Store.Load(ctx)
	if err != nil {
		return err
	}
	for id, record := range state.Keys {
		if record.State != resources.KeyNext && !s.Keys.Has(id) {
			if err := s.fetchKeys(ctx, state); err != nil {
				return err
			}
			s.board.touch()
			break
		}
	}
	if _, unfinished := keyOf(state, resources.KeyOld); !unfinished {
		return nil
	}
	s.rotating.Lock()
	defer s.rotating.Unlock()
	_, err = s.retire(ctx)
	return err
}
