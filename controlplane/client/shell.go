package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/resources"
)

// program is where skerry is on a node.
const program = "/usr/local/bin/skerry"

// Run runs a script with sh on the machine, as the user that it logs in as, and
// returns what it printed. Its input is stdin, which may be nil. An error has
// what the script said on stderr; IsUnreachable tells where it was not run.
func (d *Dialer) Run(ctx context.Context, e resources.Endpoint, script string, stdin io.Reader) (string, error) {
	return d.run(ctx, e, "sh -c "+quote(script), stdin)
}

// RunAsRoot is Run as root, with sudo where the user is another one. sudo must
// not ask for a password.
func (d *Dialer) RunAsRoot(ctx context.Context, e resources.Endpoint, script string, stdin io.Reader) (string, error) {
	return d.run(ctx, e, asRoot(first(e.User, d.options.User, "root"))+"sh -c "+quote(script), stdin)
}

func asRoot(user string) string {
	if user == "root" {
		return ""
	}
	return "sudo -n "
}

// quote makes one word of a text for any shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func (d *Dialer) run(ctx context.Context, e resources.Endpoint, command string, stdin io.Reader) (string, error) {
	session, err := d.session(ctx, e)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer session.Close()                                      //nolint:errcheck // it has ended
	stop := context.AfterFunc(ctx, func() { session.Close() }) //nolint:errcheck // it is given up
	defer stop()
	var out, said bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = stdin, &out, &said
	err = session.Run(command)
	switch exit := new(ssh.ExitError); {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return out.String(), fmt.Errorf("run a command on %s: %w", e.Host, context.Cause(ctx))
	case errors.As(err, &exit):
		return out.String(), fmt.Errorf("on %s: %s (exit status %d)", e.Host, first(strings.TrimSpace(said.String()), "a command failed"), exit.ExitStatus())
	default:
		return out.String(), fmt.Errorf("%w: run a command on %s: %w", ErrUnreachable, e.Host, err)
	}
}

// session opens a session. A connection that turns out to be broken is made anew
// once.
func (d *Dialer) session(ctx context.Context, e resources.Endpoint) (*ssh.Session, error) {
	for again := true; ; again = false {
		client, err := d.machine(e).client(ctx)
		if err != nil {
			return nil, err
		}
		session, err := client.NewSession()
		if err == nil {
			return session, nil
		}
		if refused := new(ssh.OpenChannelError); !again || errors.As(err, &refused) {
			return nil, fmt.Errorf("open a session on %s: %w", e.Host, err)
		}
		client.Close() //nolint:errcheck // it is broken
		client.Wait()  //nolint:errcheck // its end is what is waited for
		d.machine(e).drop(client)
	}
}

// Connected is what `skerry dial` says first, once it is connected.
const Connected = "connected\n"

// dialAsRoot connects to a socket with `skerry dial`, by sudo: what a login that
// is not root's may not open.
func dialAsRoot(ctx context.Context, client *ssh.Client, e resources.Endpoint) (net.Conn, error) {
	fail := func(err error) error { return fmt.Errorf("connect to %s on %s with sudo: %w", e.Socket, e.Host, err) }
	session, err := client.NewSession()
	if err != nil {
		return nil, fail(err)
	}
	c := &dialed{session: session}
	var said bytes.Buffer
	session.Stderr = &said
	in, err := session.StdinPipe()
	if err != nil {
		return nil, fail(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, fail(err)
	}
	c.WriteCloser, c.Reader = in, bufio.NewReader(out)
	stop := context.AfterFunc(ctx, func() { session.Close() }) //nolint:errcheck // it is given up
	err = session.Start(asRoot("") + program + " dial " + quote(e.Socket))
	if err == nil {
		_, err = c.ReadString('\n')
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		session.Wait()  //nolint:errcheck // it says what follows
		session.Close() //nolint:errcheck // it is given up
		return nil, fail(errors.New(first(strings.TrimSpace(said.String()), err.Error())))
	}
	return c, nil
}

// dialed is a connection that a command on the machine carries.
type dialed struct {
	*bufio.Reader
	io.WriteCloser
	session *ssh.Session
}

func (d *dialed) Close() error { return d.session.Close() }

func (d *dialed) LocalAddr() net.Addr  { return &net.UnixAddr{Net: "unix"} }
func (d *dialed) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// Deadlines are those of the requests' contexts.
func (d *dialed) SetDeadline(time.Time) error      { return nil }
func (d *dialed) SetReadDeadline(time.Time) error  { return nil }
func (d *dialed) SetWriteDeadline(time.Time) error { return nil }
