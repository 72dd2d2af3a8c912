package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// defaultQuota is how large a member's file may grow: etcd's own default.
	defaultQuota = 2 << 30
	// upkeepInterval is how often a member looks at its file, and how long its
	// turn to defragment it is.
	upkeepInterval = time.Minute
	// smallFile is not worth any upkeep.
	smallFile = 64 << 20
)

// upkeep looks after this member's file until ctx ends. etcd itself removes old
// revisions each hour, but the file keeps its size until it is written anew,
// during which the member answers nothing; that is what defragmenting means.
// Members take turns at it, so that never all of them are busy.
//
// A file that has reached its quota raises an alarm, and from then on the
// cluster takes no writes but removals. Each member then drops all revisions
// but the last at once, and defragments its file when it is its turn; the first
// with room again ends the alarm.
func (e *Etcd) upkeep(ctx context.Context) {
	ticker := time.NewTicker(upkeepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.full:
		}
		if err := e.tidy(ctx, time.Now()); err != nil && ctx.Err() == nil {
			e.log.Error("the upkeep of the store fails, and is tried again in a minute", "error", err)
		}
	}
}

// tidy does what is due now.
func (e *Etcd) tidy(ctx context.Context, now time.Time) error {
	server := e.member.Server
	alarms := e.alarms()
	if len(alarms) > 0 {
		e.log.Error("the store is full: it takes only removals until there is room; old revisions are dropped",
			"size", server.Backend().Size(), "quota", server.Cfg.QuotaBackendBytes)
		if err := e.compact(ctx); err != nil {
			return err
		}
	}
	file := fileSize{size: server.Backend().Size(), used: server.Backend().SizeInUse(), quota: server.Cfg.QuotaBackendBytes}
	var members []uint64
	for _, m := range server.Cluster().Members() {
		members = append(members, uint64(m.ID))
	}
	if file.fragmented(len(alarms) > 0) && isTurn(now, uint64(server.MemberID()), members) {
		if err := server.Defragment(); err != nil {
			return err
		}
		before := file.size
		file.size = server.Backend().Size()
		e.log.Info("the store's file is defragmented", "before", before, "size", file.size)
	}
	if !file.roomy() {
		return nil
	}
	for _, alarm := range alarms {
		if _, err := e.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
			return err
		}
		e.log.Info("the store takes writes again", "size", file.size, "quota", file.quota)
	}
	return nil
}

// Size of this member's file, in bytes.
func (e *Etcd) Size() int64 { return e.member.Server.Backend().Size() }

// alarms are those of a full store.
func (e *Etcd) alarms() []*etcdserverpb.AlarmMember {
	return slices.DeleteFunc(e.member.Server.Alarms(), func(a *etcdserverpb.AlarmMember) bool {
		return a.Alarm != etcdserverpb.AlarmType_NOSPACE
	})
}

// compact drops all revisions but the last. Nobody here reads another.
func (e *Etcd) compact(ctx context.Context) error {
	_, err := e.client.Compact(ctx, e.member.Server.KV().Rev(), clientv3.WithCompactPhysical())
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return err
	}
	e.member.Server.Backend().ForceCommit()
	return nil
}

// fileSize is how large a member's file is, in bytes.
type fileSize struct{ size, used, quota int64 }

// fragmented says whether it is worth it to write the file anew: half of it is
// free, or a tenth where it comes near its quota.
func (f fileSize) fragmented(full bool) bool {
	if full || f.size > f.quota/10*8 {
		return f.used < f.size/10*9
	}
	return f.size > smallFile && f.used < f.size/2
}

// roomy says whether a file is small enough to end the alarm of a full store.
func (f fileSize) roomy() bool { return f.size < f.quota/10*9 }

// isTurn says whether a member may be busy now: each is for a minute, one after
// the other. The clocks of members agree well enough for that, and it needs no
// lock, which a store that is full could not write.
func isTurn(now time.Time, self uint64, members []uint64) bool {
	slices.Sort(members)
	index := slices.Index(members, self)
	return len(members) > 0 && int(now.Unix()/int64(upkeepInterval/time.Second)%int64(len(members))) == index
}
