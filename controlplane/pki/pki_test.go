package pki

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// member gives a node of the authority its credentials, as a join does.
func member(t *testing.T, authority Pair, node resources.NodeID, server bool, now time.Time) Credentials {
	t.Helper()
	a, err := ReadAuthority(authority)
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := a.Sign(request, node, server, now)
	if err != nil {
		t.Fatal(err)
	}
	return Credentials{Pair: Pair{Certificate: certificate, Key: key}, Authority: authority.Certificate}
}

func authority(t *testing.T) Pair {
	t.Helper()
	pair, err := NewAuthority("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// shake lets client and server meet, and gives what each says of it, and whom
// the server saw.
func shake(t *testing.T, server, client Credentials, name string) (seen Identity, serverErr, clientErr error) {
	t.Helper()
	serverConfig, err := server.Server()
	if err != nil {
		t.Fatal(err)
	}
	clientConfig, err := client.Client(name)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		accepted := tls.Server(far, serverConfig)
		if serverErr = accepted.Handshake(); serverErr == nil {
			seen, serverErr = IdentityOf(accepted.ConnectionState().PeerCertificates[0])
			if serverErr == nil {
				_, serverErr = accepted.Write([]byte("x"))
			}
		}
	}()
	connected := tls.Client(near, clientConfig)
	if clientErr = connected.Handshake(); clientErr == nil {
		// The server's refusal of a client is seen by the first read.
		_, clientErr = connected.Read(make([]byte, 1))
	}
	near.Close()
	<-done
	return seen, serverErr, clientErr
}

func TestMembersKnowEachOther(t *testing.T) {
	own := authority(t)
	server := member(t, own, "aa", true, time.Now())
	worker := member(t, own, "bb", false, time.Now())
	seen, serverErr, clientErr := shake(t, server, worker, ServerName)
	if serverErr != nil || clientErr != nil || seen != (Identity{Node: "bb"}) {
		t.Errorf("a worker meets a server: %+v, %v, %v", seen, serverErr, clientErr)
	}
	seen, serverErr, clientErr = shake(t, worker, server, NodeName("bb"))
	if serverErr != nil || clientErr != nil || seen != (Identity{Node: "aa", Server: true}) {
		t.Errorf("a server meets a worker: %+v, %v, %v", seen, serverErr, clientErr)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	own, other := authority(t), authority(t)
	server := member(t, own, "aa", true, time.Now())
	worker := member(t, own, "bb", false, time.Now())
	for name, c := range map[string]struct {
		server, client Credentials
		as             string
		atServer       bool
		says           string
	}{
		"a client of another cluster": {server, Credentials{member(t, other, "bb", false, time.Now()).Pair, own.Certificate}, ServerName, true, "unknown authority"},
		"a server of another cluster": {member(t, other, "aa", true, time.Now()), worker, ServerName, false, "unknown authority"},
		"a worker that plays server":  {worker, server, ServerName, false, "not " + ServerName},
		"another node":                {worker, server, NodeName("cc"), false, "not " + NodeName("cc")},
		"a certificate of long ago":   {server, member(t, own, "bb", false, time.Now().Add(-CertificateLife-time.Hour)), ServerName, true, "expired"},
		"a certificate of tomorrow":   {server, member(t, own, "bb", false, time.Now().Add(24*time.Hour)), ServerName, true, "not yet valid"},
	} {
		_, serverErr, clientErr := shake(t, c.server, c.client, c.as)
		err := clientErr
		if c.atServer {
			err = serverErr
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
}

// Of a request only its key counts: nobody names himself.
func TestARequestNamesNobody(t *testing.T) {
	own := authority(t)
	c, err := readCertificate(member(t, own, "bb", false, time.Now()).Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if c.IsCA || len(c.DNSNames) != 1 || c.DNSNames[0] != NodeName("bb") || c.Subject.CommonName != "bb" {
		t.Errorf("the certificate is of %v (%v), authority: %v", c.Subject, c.DNSNames, c.IsCA)
	}
}

func TestRenewalComesBeforeTheEnd(t *testing.T) {
	now := time.Now()
	at, err := RenewAt(member(t, authority(t), "bb", false, now).Certificate)
	if left := now.Add(CertificateLife).Sub(at); err != nil || left < 29*24*time.Hour || left > 31*24*time.Hour {
		t.Errorf("%v are left for a renewal, %v", left, err)
	}
}

// A node's request comes over the wire.
func FuzzSign(f *testing.F) {
	pair, err := NewAuthority("c1", time.Now())
	if err != nil {
		f.Fatal(err)
	}
	a, err := ReadAuthority(pair)
	if err != nil {
		f.Fatal(err)
	}
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	request, err := NewRequest(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add(key)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, request []byte) {
		text, err := a.Sign(request, "bb", false, time.Now())
		if err != nil {
			return
		}
		c, err := readCertificate(text)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := IdentityOf(c); err != nil || id != (Identity{Node: "bb"}) || c.IsCA {
			t.Errorf("a request became %+v, authority: %v, %v", id, c.IsCA, err)
		}
	})
}
