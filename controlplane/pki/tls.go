package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Credentials are what a node shows to others of its cluster, and by what it
// knows them.
type Credentials struct {
	Pair
	// Authority is the certificate of the cluster's authority, as PEM.
	Authority []byte `json:"authority"`
}

// Server is the TLS configuration of what other nodes connect to. Whoever
// connects shows a certificate of the cluster.
func (c Credentials) Server() (*tls.Config, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	config.ClientCAs, config.ClientAuth = config.RootCAs, tls.RequireAndVerifyClientCert
	return config, nil
}

// Client is the TLS configuration for a connection to the machine of a name:
// NodeName of a node, or ServerName for any server.
func (c Credentials) Client(name string) (*tls.Config, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	config.ServerName = name
	return config, nil
}

func (c Credentials) config() (*tls.Config, error) {
	own, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("read the node's certificate: %w", err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(c.Authority) {
		return nil, errors.New("read the certificate of the cluster's authority: it is no PEM")
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, RootCAs: authority}, nil
}
