package transport

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"edged.dev/edged/transport/wire"
)

// The files of a tls.dir. A node's has the first four, never the CA's key.
const (
	caCertFile     = "ca.crt"
	nodeCertFile   = "node.crt"
	nodeKeyFile    = "node.key"
	clusterKeyFile = "cluster.key"
	caKeyFile      = "ca.key"
)

const (
	sanScheme = "edged"
	// clusterKeyBytes is the size of the key of set digests and tokens.
	clusterKeyBytes = 32
	// caValidity outlives the hardware: a CA that lapses takes the cluster down.
	caValidity = 20 * 365 * 24 * time.Hour
	// backdate forgives a node whose clock is behind the issuer's.
	backdate = time.Hour
)

// InitCA makes a cluster's certificate authority in dir: ca.crt, ca.key and
// cluster.key, with a new cluster ID. It refuses a directory that has one.
func InitCA(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, caKeyFile)); err == nil {
		return fmt.Errorf("init ca in %s: it already has one", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("init ca: %w", err)
	}
	cluster, key := randomBytes(16), randomBytes(clusterKeyBytes)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("init ca: %w", err)
	}
	id := hex.EncodeToString(cluster)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(randomBytes(16)),
		Subject:               pkix.Name{CommonName: "edged cluster " + id},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caValidity),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		URIs:                  []*url.URL{{Scheme: sanScheme, Host: id}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return fmt.Errorf("init ca: %w", err)
	}
	keyPEM, err := marshalKey(private)
	if err != nil {
		return fmt.Errorf("init ca: %w", err)
	}
	return writeFiles(dir, []file{
		{caCertFile, pemBlock("CERTIFICATE", der)}, {clusterKeyFile, key}, {caKeyFile, keyPEM},
	})
}

// Issue makes a certificate for the node name with the CA in caDir and writes
// what the node needs to outDir: ca.crt, node.crt, node.key and cluster.key, all
// readable by their owner only. A directory that holds a certificate already, a
// CA's key, or another cluster's files is refused: a node's key is not to be lost
// by a slip of the hand.
func Issue(caDir, name, outDir string, validity time.Duration) error {
	if err := checkUnissued(outDir); err != nil {
		return fmt.Errorf("issue %s: %w", name, err)
	}
	return issue(caDir, name, outDir, validity)
}

// Renew does what Issue does where outDir holds a certificate of the same node,
// which is replaced with its key.
func Renew(caDir, name, outDir string, validity time.Duration) error {
	old, _, err := readCert(filepath.Join(outDir, nodeCertFile))
	if err != nil {
		return fmt.Errorf("renew %s: %w", name, err)
	}
	if _, of, err := sanOf(old); err != nil || of != name {
		return fmt.Errorf("renew %s: %s holds the certificate of %q", name, outDir, of)
	}
	return issue(caDir, name, outDir, validity)
}

// checkUnissued goes by the certificate, which is written last: what an issue left
// that was cut short before it may be replaced.
func checkUnissued(dir string) error {
	path := filepath.Join(dir, nodeCertFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	of := "a node"
	if old, _, err := readCert(path); err == nil {
		if _, name, err := sanOf(old); err == nil {
			of = name
		}
	}
	return fmt.Errorf("%s holds the certificate and the key of %s already; give another directory, or renew it (`edged ca issue NAME --renew`)", dir, of)
}

func issue(caDir, name, outDir string, validity time.Duration) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("issue %q: %w", name, err)
	}
	if validity <= 0 {
		return fmt.Errorf("issue %s: validity %v is not positive", name, validity)
	}
	ca, caPEM, err := readCert(filepath.Join(caDir, caCertFile))
	if err != nil {
		return fmt.Errorf("issue %s: %w", name, err)
	}
	caKey, err := readKey(filepath.Join(caDir, caKeyFile))
	if err != nil {
		return fmt.Errorf("issue %s: %w", name, err)
	}
	clusterKey, err := readFile(filepath.Join(caDir, clusterKeyFile))
	if err != nil {
		return fmt.Errorf("issue %s: %w", name, err)
	}
	if err := checkOutDir(outDir, caPEM); err != nil {
		return fmt.Errorf("issue %s: %w", name, err)
	}
	certPEM, keyPEM, err := mintNode(ca, caKey, name, validity)
	if err != nil {
		return fmt.Errorf("issue %s: %w", name, err)
	}
	return writeFiles(outDir, []file{
		{caCertFile, caPEM}, {clusterKeyFile, clusterKey}, {nodeKeyFile, keyPEM}, {nodeCertFile, certPEM},
	})
}

// mintNode makes a node's key and its certificate, as PEM.
func mintNode(ca *x509.Certificate, caKey ed25519.PrivateKey, name string, validity time.Duration) (cert, key []byte, err error) {
	cluster, _, err := sanOf(ca)
	if err != nil {
		return nil, nil, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(randomBytes(16)),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:         []*url.URL{{Scheme: sanScheme, Host: cluster, Path: "/" + name}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, public, caKey)
	if err != nil {
		return nil, nil, err
	}
	key, err = marshalKey(private)
	return pemBlock("CERTIFICATE", der), key, err
}

// checkName holds node names to what reads well in a URI, a metric and a file.
func checkName(name string) error {
	if name == "" || len(name) > wire.MaxNameBytes {
		return fmt.Errorf("a node name has 1 to %d characters", wire.MaxNameBytes)
	}
	for _, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return errors.New("a node name has letters, digits, '-', '_' and '.' only")
		}
	}
	return nil
}

func checkOutDir(dir string, caPEM []byte) error {
	if _, err := os.Stat(filepath.Join(dir, caKeyFile)); err == nil {
		return fmt.Errorf("%s holds a CA's key, which no node may have", dir)
	}
	old, err := os.ReadFile(filepath.Join(dir, caCertFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(old, caPEM) {
		return fmt.Errorf("%s holds another cluster's files", dir)
	}
	return nil
}

// sanOf returns the cluster and node name that a certificate is for; the name is
// empty in a CA's.
func sanOf(cert *x509.Certificate) (cluster, name string, err error) {
	for _, u := range cert.URIs {
		if u.Scheme != sanScheme || u.Host == "" {
			continue
		}
		if len(u.Path) > 1 {
			name = u.Path[1:]
		}
		return u.Host, name, nil
	}
	return "", "", fmt.Errorf("certificate of %q has no %s:// name: not one of ours", cert.Subject.CommonName, sanScheme)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

func marshalKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pemBlock("PRIVATE KEY", der), err
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// file is one to be written.
type file struct {
	name string
	data []byte
}

// writeFiles writes each file beside its place and renames it into it, in order,
// so that a reader sees the old or the new one whole, and the last one last.
func writeFiles(dir string, files []file) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write certificates: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".new", f.data, 0o600); err != nil {
			return fmt.Errorf("write certificates: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("write certificates: %w", err)
		}
	}
	return nil
}
