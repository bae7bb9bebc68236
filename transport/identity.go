package transport

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// alpn names the protocol in the handshake; another protocol's peer fails there.
const alpn = "edged/1"

// Identity is who a node is: its certificate, the CA that it trusts, and the
// cluster's key.
type Identity struct {
	Cluster    string // the cluster ID, 32 hexadecimal digits
	Name       string // the node's name
	ClusterKey [clusterKeyBytes]byte
	NotAfter   time.Time // when the certificate lapses

	cert  tls.Certificate
	roots *x509.CertPool
}

// LoadIdentity reads a directory that Issue wrote. The error says which file is
// missing, unreadable, lapsed, or does not fit the others.
func LoadIdentity(dir string) (Identity, error) {
	id, err := loadIdentity(dir, time.Now())
	if err != nil {
		return Identity{}, fmt.Errorf("load identity: %w", err)
	}
	return id, nil
}

func loadIdentity(dir string, now time.Time) (Identity, error) {
	ca, _, err := readCert(filepath.Join(dir, caCertFile))
	if err != nil {
		return Identity{}, err
	}
	node, _, err := readCert(filepath.Join(dir, nodeCertFile))
	if err != nil {
		return Identity{}, err
	}
	key, err := readKey(filepath.Join(dir, nodeKeyFile))
	if err != nil {
		return Identity{}, err
	}
	clusterKey, err := readFile(filepath.Join(dir, clusterKeyFile))
	if err != nil {
		return Identity{}, err
	}
	if len(clusterKey) != clusterKeyBytes {
		return Identity{}, fmt.Errorf("%s has %d bytes, not %d", filepath.Join(dir, clusterKeyFile), len(clusterKey), clusterKeyBytes)
	}
	id := Identity{roots: x509.NewCertPool(), NotAfter: node.NotAfter}
	id.roots.AddCert(ca)
	if err := checkNode(node, key, dir, now); err != nil {
		return Identity{}, err
	}
	if id.Cluster, id.Name, err = verify(node, id.roots, now); err != nil {
		return Identity{}, fmt.Errorf("%s does not fit %s: %w", filepath.Join(dir, nodeCertFile), caCertFile, err)
	}
	copy(id.ClusterKey[:], clusterKey)
	id.cert = tls.Certificate{Certificate: [][]byte{node.Raw}, PrivateKey: key, Leaf: node}
	return id, nil
}

// checkNode gives the two likely mistakes their own message.
func checkNode(node *x509.Certificate, key ed25519.PrivateKey, dir string, now time.Time) error {
	path := filepath.Join(dir, nodeCertFile)
	switch {
	case now.After(node.NotAfter):
		return fmt.Errorf("%s expired on %s: issue a new one with `edged ca issue NAME --renew`", path, node.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(node.NotBefore):
		return fmt.Errorf("%s is not valid before %s: is the clock right?", path, node.NotBefore.UTC().Format(time.RFC3339))
	}
	public, ok := node.PublicKey.(ed25519.PublicKey)
	if !ok || !public.Equal(key.Public()) {
		return fmt.Errorf("%s is not the key of %s", filepath.Join(dir, nodeKeyFile), path)
	}
	return nil
}

// SelfIdentity returns the identity of a cluster of one, kept in dir. The first
// call mints it, with a CA of its own in dir/ca.
func SelfIdentity(dir, name string) (Identity, error) {
	_, err := os.Stat(filepath.Join(dir, nodeCertFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = mintSelf(dir, name)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("mint identity: %w", err)
	}
	id, err := LoadIdentity(dir)
	if err != nil {
		return Identity{}, err
	}
	if id.Name != name {
		return Identity{}, fmt.Errorf("load identity: %s is of node %q, not %q", dir, id.Name, name)
	}
	return id, nil
}

// mintSelf may be cut short anywhere: what an earlier try left is used or
// replaced, and node.crt, by which it is known to be done, comes last.
func mintSelf(dir, name string) error {
	caDir := filepath.Join(dir, "ca")
	if _, err := loadCA(caDir); err != nil {
		if err := os.RemoveAll(caDir); err != nil {
			return err
		}
		if err := InitCA(caDir); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(dir, caCertFile)); err != nil {
			return err
		}
	}
	staged := filepath.Join(dir, "issued")
	if err := os.RemoveAll(staged); err != nil {
		return err
	}
	if err := Issue(caDir, name, staged, caValidity); err != nil {
		return err
	}
	for _, file := range []string{caCertFile, clusterKeyFile, nodeKeyFile, nodeCertFile} {
		if err := os.Rename(filepath.Join(staged, file), filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	return os.Remove(staged)
}

func loadCA(dir string) (*x509.Certificate, error) {
	if _, err := readKey(filepath.Join(dir, caKeyFile)); err != nil {
		return nil, err
	}
	if _, err := readFile(filepath.Join(dir, clusterKeyFile)); err != nil {
		return nil, err
	}
	cert, _, err := readCert(filepath.Join(dir, caCertFile))
	return cert, err
}

// tlsConfig is TLS 1.3 with certificates both ways and nothing resumable: a
// certificate is checked at every connection. rejected counts those not taken.
func (id Identity) tlsConfig(rejected *atomic.Int64) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		Certificates:           []tls.Certificate{id.cert},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		// Names are not host names here, so the standard check cannot be used;
		// VerifyConnection does the whole of it, on both sides.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			err := id.checkPeer(state, time.Now())
			if err != nil {
				rejected.Add(1)
			}
			return err
		},
	}
}

func (id Identity) checkPeer(state tls.ConnectionState, now time.Time) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("peer showed no certificate")
	}
	cluster, _, err := verify(state.PeerCertificates[0], id.roots, now)
	if err != nil {
		return err
	}
	if cluster != id.Cluster {
		return fmt.Errorf("peer's certificate is of cluster %s", cluster)
	}
	return nil
}

// verify checks a node's certificate against the CA and returns its names.
func verify(cert *x509.Certificate, roots *x509.CertPool, now time.Time) (cluster, name string, err error) {
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "", "", err
	}
	cluster, name, err = sanOf(cert)
	if err != nil {
		return "", "", err
	}
	ofCA, _, err := sanOf(chains[0][len(chains[0])-1])
	if err != nil {
		return "", "", err
	}
	if cluster != ofCA {
		return "", "", fmt.Errorf("certificate is of cluster %s, its CA of %s", cluster, ofCA)
	}
	return cluster, name, checkName(name)
}

func readFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: %w", path, fs.ErrNotExist)
	}
	return b, err
}

func readPEM(path, kind string) (der, raw []byte, err error) {
	raw, err = readFile(path)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != kind {
		return nil, nil, fmt.Errorf("%s holds no PEM block %q", path, kind)
	}
	return block.Bytes, raw, nil
}

func readCert(path string) (*x509.Certificate, []byte, error) {
	der, raw, err := readPEM(path, "CERTIFICATE")
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return cert, raw, nil
}

func readKey(path string) (ed25519.PrivateKey, error) {
	der, _, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key", path)
	}
	return private, nil
}
