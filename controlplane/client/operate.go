package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// Logs writes lines of a replica's log to w. It returns when there are no more.
func (s *Server) Logs(ctx context.Context, id resources.ReplicaID, options resources.LogOptions, w io.Writer) error {
	response, err := s.send(ctx, once, http.MethodPost, replicaPath(id)+"/logs", options)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = api.ReadAnswer(response, nil)
	}
	if err == nil {
		_, err = io.Copy(w, response.Body)
		response.Body.Close() //nolint:errcheck // it was read
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	return wrap(err, "read the log of replica %s", id)
}

// Exec runs a command in a replica, and returns its exit code. What streams.In
// gives is read until it ends, be it longer than the command runs.
func (s *Server) Exec(ctx context.Context, id resources.ReplicaID, command resources.Command, streams resources.Streams) (code int, err error) {
	session, err := s.open(ctx, replicaPath(id)+"/exec", command)
	if err != nil {
		return 0, wrap(err, "run a command in replica %s", id)
	}
	defer session.Close()                                      //nolint:errcheck // its end was told
	defer context.AfterFunc(ctx, func() { session.Close() })() //nolint:errcheck // it is given up
	if command.Input {
		go func() {
			// What goes wrong here ends the session, which tells so below.
			io.Copy(session.Stream(api.FrameInput), streams.In) //nolint:errcheck // see above
			session.Send(api.FrameInput, nil)                   //nolint:errcheck // see above
		}()
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case size := <-streams.Resize:
				session.SendJSON(api.FrameResize, size) //nolint:errcheck // it ends below
			case <-over:
				return
			}
		}
	}()
	code, err = follow(session, streams)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return code, wrap(err, "run a command in replica %s", id)
}

// follow writes what a command does, until it has ended.
func follow(session *api.Session, streams resources.Streams) (int, error) {
	for {
		kind, content, err := session.Receive()
		if err != nil {
			return 0, fmt.Errorf("the connection broke off: %w", err)
		}
		switch kind {
		case api.FrameOutput:
			_, err = streams.Out.Write(content)
		case api.FrameErrors:
			_, err = streams.Err.Write(content)
		case api.FrameResult:
			result, err := api.Decode[api.Result](content)
			if err == nil && result.Error != "" {
				err = errors.New(result.Error)
			}
			return result.Code, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// BackUpVolume writes an archive of the volume's data to w; see package backup.
// Without pause, the replicas that mount it go on, and what they write meanwhile may
// be in it or not.
func (s *Server) BackUpVolume(ctx context.Context, name string, pause bool, w io.Writer) error {
	err := s.transfer(ctx, volumePath(name)+"/backup", resources.VolumeTransfer{Pause: pause}, resources.Streams{Out: w})
	return wrap(err, "back up volume %s", name)
}

// RestoreVolume replaces the volume's data with that of an archive. The replicas that
// mount it are stopped first, and started again after. Where the archive is broken,
// or r fails, the data stays as it was.
func (s *Server) RestoreVolume(ctx context.Context, name string, r io.Reader) error {
	err := s.transfer(ctx, volumePath(name)+"/restore", resources.VolumeTransfer{Pause: true}, resources.Streams{In: r, Out: io.Discard})
	return wrap(err, "restore volume %s", name)
}

// CopyFromVolume writes an archive of a file or directory of the volume to w; see
// backup.WritePath.
func (s *Server) CopyFromVolume(ctx context.Context, name, path string, pause bool, w io.Writer) error {
	err := s.transfer(ctx, volumePath(name)+"/read", resources.VolumeTransfer{Path: path, Pause: pause}, resources.Streams{Out: w})
	return wrap(err, "copy from volume %s", name)
}

// CopyToVolume puts what such an archive holds into the volume, at a path; see
// backup.Place. Where r fails, the volume stays as it was.
func (s *Server) CopyToVolume(ctx context.Context, name, path string, pause bool, r io.Reader) error {
	err := s.transfer(ctx, volumePath(name)+"/write", resources.VolumeTransfer{Path: path, Pause: pause}, resources.Streams{In: r, Out: io.Discard})
	return wrap(err, "copy to volume %s", name)
}

// transfer sends what streams.In gives, and writes what comes to streams.Out.
func (s *Server) transfer(ctx context.Context, path string, how resources.VolumeTransfer, streams resources.Streams) error {
	session, err := s.open(ctx, path, how)
	if err != nil {
		return err
	}
	defer session.Close()                                      //nolint:errcheck // its end was told
	defer context.AfterFunc(ctx, func() { session.Close() })() //nolint:errcheck // it is given up
	failed := make(chan error, 1)
	go func() {
		if streams.In == nil {
			return
		}
		if _, err := io.Copy(session.Stream(api.FrameInput), streams.In); err != nil {
			failed <- err
			session.Close() //nolint:errcheck // without the end of the input, nothing comes of it
			return
		}
		session.Send(api.FrameInput, nil) //nolint:errcheck // what goes wrong ends the session, which tells so
	}()
	_, err = follow(session, streams)
	select {
	case cause := <-failed:
		if err != nil {
			err = cause
		}
	default:
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// open begins a session. It is not tried twice: a command may have begun.
func (c *connection) open(ctx context.Context, path string, command any) (*api.Session, error) {
	text, err := json.Marshal(command)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://skerry"+path, bytes.NewReader(nil))
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		api.Header: api.Version, "Connection": "Upgrade", "Upgrade": api.SessionProtocol, api.CommandHeader: string(text),
	} {
		request.Header.Set(name, value)
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	connection, upgraded := response.Body.(io.ReadWriteCloser)
	if response.StatusCode != http.StatusSwitchingProtocols || !upgraded {
		defer response.Body.Close() //nolint:errcheck // it was read
		if err := api.ReadAnswer(response, nil); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the control plane answered %s, and can't run commands", response.Status)
	}
	return api.NewSession(connection), nil
}

func replicaPath(id resources.ReplicaID) string { return "/v1/replicas/" + url.PathEscape(string(id)) }
