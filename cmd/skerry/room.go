package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// leastRoom is what a server needs on its disk to begin: a segment of etcd's log,
// which is 64 MiB and made at once (wal.SegmentSizeBytes), and some more for its
// file. With less it would end again at one of its next writes.
const leastRoom = 80 * resources.MiB

// room says why a directory has not enough of it, or "".
func room(path string) string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return fmt.Sprintf("read the size of the file system of %s: %v", path, err)
	}
	free := resources.Bytes(fs.Bavail) * resources.Bytes(fs.Bsize)
	if free >= leastRoom {
		return ""
	}
	return fmt.Sprintf("the disk of %s is full: %dMiB are free, and the control plane needs %dMiB to begin; make room, or grow the disk, and it goes on by itself",
		path, free/resources.MiB, leastRoom/resources.MiB)
}

// awaitRoom returns once a server has room for what it writes. etcd ends where
// its disk is full, with nothing lost; the process that follows waits here, and
// says why to whoever asks: clients then turn to other servers, where there are
// any.
func awaitRoom(ctx context.Context, p places, waits func(), log *slog.Logger) error {
	why := room(p.data)
	if why == "" {
		return nil
	}
	log.Error("the control plane waits", "why", why)
	socket, err := listen(p.serverEndpoint().Socket)
	if err != nil {
		return err
	}
	refusing := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx },
		Handler: api.Handler(func(*http.Request) (any, error) {
			return nil, api.Errorf(http.StatusInsufficientStorage, "%s", why)
		}),
	}
	go refusing.Serve(socket) //nolint:errcheck // it ends with Close
	defer refusing.Close()    //nolint:errcheck // nobody is served any more
	waits()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for room(p.data) != "" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
	log.Info("the control plane has room again")
	return nil
}
