// Package pki is the cluster's own certificate authority, and what servers and
// agents do with its certificates.
//
// The first server makes the authority; its key is in the store, which only
// servers have. A node makes its own key, which never leaves it. The plugin
// carries the node's request to a server and the certificate back, over SSH,
// so that there is no token to leak; from then on the agent renews the
// certificate by itself. See docs/decisions/0008-nodes-make-their-keys.md.
//
// Machines are known by the ID of their node, never by an address: a
// certificate names "ID.node.skerry.internal", and that of a server
// "server.skerry.internal" too.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/resources"
)

const (
	// AuthorityLife is how long an authority lives: longer than its machines.
	AuthorityLife = 20 * 365 * 24 * time.Hour
	// CertificateLife is how long a certificate lives. A node that was off for
	// longer gets a new one from the next apply.
	CertificateLife = 90 * 24 * time.Hour
	// skew is how far the clocks of two machines may be apart.
	skew = 5 * time.Minute
)

// ServerName is in the certificate of every server, and of no other node.
const ServerName = "server.skerry.internal"

const nodeSuffix = ".node.skerry.internal"

// NodeName is the name by which a node's certificate knows it.
func NodeName(id resources.NodeID) string { return string(id) + nodeSuffix }

// Pair is a certificate and its private key, as PEM.
type Pair struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"`
}

// Authority signs the certificates of one cluster.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes the authority of a cluster, with a new key.
func NewAuthority(cluster resources.ClusterID, now time.Time) (Pair, error) {
	key, err := NewKey()
	if err != nil {
		return Pair{}, err
	}
	signer, err := readKey(key)
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "skerry cluster " + string(cluster)},
		NotBefore: now.Add(-skew), NotAfter: now.Add(AuthorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	text, err := sign(template, template, signer.Public(), signer)
	return Pair{Certificate: text, Key: key}, err
}

// ReadAuthority reads what NewAuthority made.
func ReadAuthority(p Pair) (*Authority, error) {
	certificate, err := readCertificate(p.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read the certificate of the authority: %w", err)
	}
	key, err := readKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("read the key of the authority: %w", err)
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// Certificate is the authority's own, as PEM: by it members know each other.
func (a *Authority) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: a.certificate.Raw})
}

// Sign gives the node that made the request a certificate, as PEM. Of the
// request only the key counts: who the node is, and whether it is a server, is
// said by whoever lets it in.
func (a *Authority) Sign(request []byte, node resources.NodeID, server bool, now time.Time) ([]byte, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != requestType {
		return nil, errors.New("sign a certificate: the request is not a PEM block of type " + requestType)
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = asked.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: read the request: %w", err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: string(node)},
		DNSNames:  []string{NodeName(node)},
		NotBefore: now.Add(-skew), NotAfter: now.Add(CertificateLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if server {
		template.DNSNames = append(template.DNSNames, ServerName)
	}
	return sign(template, a.certificate, asked.PublicKey, a.key)
}

// Identity is who a verified certificate says that its holder is.
type Identity struct {
	Node   resources.NodeID
	Server bool
}

// IdentityOf reads the identity from a certificate that was verified.
func IdentityOf(certificate *x509.Certificate) (Identity, error) {
	for _, name := range certificate.DNSNames {
		if id, found := strings.CutSuffix(name, nodeSuffix); found {
			return Identity{Node: resources.NodeID(id), Server: slices.Contains(certificate.DNSNames, ServerName)}, nil
		}
	}
	return Identity{}, fmt.Errorf("the certificate of %q names no node", certificate.Subject.CommonName)
}

// EndOf is when a certificate ends, PEM.
func EndOf(certificate []byte) (time.Time, error) {
	c, err := readCertificate(certificate)
	if err != nil {
		return time.Time{}, err
	}
	return c.NotAfter, nil
}

// RenewAt is when a certificate is renewed: after two thirds of its life, so
// that a month is left for a control plane that is down.
func RenewAt(certificate []byte) (time.Time, error) {
	c, err := readCertificate(certificate)
	if err != nil {
		return time.Time{}, err
	}
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3), nil
}

const (
	requestType     = "CERTIFICATE REQUEST"
	certificateType = "CERTIFICATE"
	keyType         = "PRIVATE KEY"
)

// NewKey makes a private key, as PEM.
func NewKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: encoded}), nil
}

// NewRequest asks for a certificate for the key, as PEM.
func NewRequest(key []byte) ([]byte, error) {
	signer, err := readKey(key)
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	encoded, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, signer)
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: requestType, Bytes: encoded}), nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	template.SerialNumber = serial
	encoded, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: encoded}), nil
}

func readCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != certificateType {
		return nil, errors.New("it is not a PEM block of type " + certificateType)
	}
	return x509.ParseCertificate(block.Bytes)
}

func readKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyType {
		return nil, errors.New("it is not a PEM block of type " + keyType)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, found := key.(crypto.Signer)
	if !found {
		return nil, fmt.Errorf("a %T does not sign", key)
	}
	return signer, nil
}
