package node

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// What a Config may say where there is a choice of words.
const (
	// DurabilitySync answers a write when it is on disk.
	DurabilitySync = "sync"
	// DurabilityRelaxed answers when two processes have applied it; a loss of
	// power everywhere loses the last moments.
	DurabilityRelaxed = "relaxed"
	// IsolatedAccept goes on acknowledging, with fewer copies, and says so.
	IsolatedAccept = "accept"
	// IsolatedRefuse refuses a write that fewer than W owners can take.
	IsolatedRefuse = "refuse"
)

const (
	// minSyncRate lets the smallest piece of a stream pass several times a second, so
	// that none looks stalled to its receiver.
	minSyncRate = 64 << 10
	// minSyncGuard is what a percentile varies by chance; past maxSyncGuard nothing is
	// guarded.
	minSyncGuard = 1.1
	maxSyncGuard = 100.0
	// maxSyncLanes is what a session can have.
	maxSyncLanes = 8
	// minHorizon leaves owners that restart the time to say what they hold, so that
	// a restart costs nothing.
	minHorizon = time.Minute
	// minScrub keeps the scrub from being all that the disk does.
	minScrub = time.Minute
	// minMemoryBytes is what the store's own buffers need before anything is
	// cached.
	minMemoryBytes = 16 << 20
	// defaultMemoryBytes fits beside other programs on a small edge host.
	defaultMemoryBytes = 256 << 20
	// minStoreLimitBytes is what a few of the largest values take, which would
	// otherwise come and go.
	minStoreLimitBytes = 16 << 20
	// maxPartitions, maxCopies and maxNameBytes are the layout's limits.
	maxPartitions = 4096
	maxCopies     = 16
	maxNameBytes  = 64
	// maxJoin bounds the addresses to join by: one that answers is enough.
	maxJoin = 64
)

// Config is everything that one node is told. Default has what a node on
// loopback needs; the names of the settings stand in Settings.
type Config struct {
	// DataDir keeps all that the node stores; it is made where missing.
	DataDir string

	// NodeName is the placement key. Empty is the certificate's name, and
	// "local" without certificates.
	NodeName string
	// NodeListen is the UDP address for other nodes. Without TLSDir it must
	// be a loopback one.
	NodeListen string
	// NodeAdvertise is the address that other nodes are told. Empty is the
	// one that NodeListen was bound to.
	NodeAdvertise string
	// NodeZone is the failure domain; copies spread over zones.
	NodeZone string

	// RESPListen, HTTPListen and AdminListen are TCP addresses; HTTP/3 has the
	// same port in UDP. Port 0 takes a free one.
	RESPListen  string
	HTTPListen  string
	AdminListen string

	// TLSDir has ca.crt, node.crt, node.key and cluster.key. Empty is a
	// cluster of one, which makes its own.
	TLSDir string

	// ClusterJoin are addresses of nodes to join, HOST:PORT, any of which will
	// do. ClusterFound lets a node with certificates found a new cluster.
	ClusterJoin  []string
	ClusterFound bool
	// ClusterPartitions is P, which counts at the founding alone: a cluster
	// keeps the P it was founded with.
	ClusterPartitions int
	// ClusterCopies is N, WriteQuorum is W, ReadQuorum is R. Fewer nodes than
	// N hold as many copies as there are nodes.
	ClusterCopies int
	WriteQuorum   int
	ReadQuorum    int

	// RESPPasswordFile and AdminTokenFile are files whose first line is the
	// secret. Empty asks for none.
	RESPPasswordFile string
	AdminTokenFile   string

	// MemoryBytes bounds the memory tier.
	MemoryBytes int64
	// HugePages lets the kernel back the first 192 MiB of the process' heap with huge
	// pages, where it has them for those who ask. New does it, once in a process.
	HugePages bool
	// TombstoneHorizon is how long what is left of a delete waits for an owner that
	// is away; one that comes back later is told which versions are still live.
	TombstoneHorizon time.Duration
	// StoreLimitBytes bounds the keys and values in the store, before compression:
	// beyond it the coldest are evicted, cluster-wide. It is looked at every half
	// minute, so bursts pass it. Nodes should have the same. 0 is no bound.
	StoreLimitBytes int64
	// ScrubEvery is how long the node takes to read all its copies once and to check
	// every value, in the background; 0 leaves it to `edged scrub`.
	ScrubEvery time.Duration
	// SyncRateBytes is how many bytes a second this node streams to nodes that catch
	// up from it, at most; 0 sets no limit. A running node takes another.
	SyncRateBytes int64
	// SyncGuard is what the 99th percentile of what clients wait at this node may grow
	// to while it streams to others or catches up, as a multiple of what it is without:
	// past it the streams are slowed down, though never below half a mebibyte a second.
	// 0 lets them run. A running node takes another.
	SyncGuard float64
	// SyncLanes is over how many streams at once, over all nodes that catch up from it,
	// this node sends: each takes a processor's time to compress. 0 is half of the
	// processors, 1 to 8.
	SyncLanes int
	// Durability is DurabilitySync or DurabilityRelaxed.
	Durability string
	// IsolatedWrites is IsolatedAccept or IsolatedRefuse.
	IsolatedWrites string

	// LogLevel is debug, info, warn or error; LogFormat is text or json.
	LogLevel  string
	LogFormat string
}

// Default returns the configuration of a node that was told nothing: a
// cluster of one on loopback.
func Default() Config {
	return Config{
		DataDir:           "edged-data",
		NodeListen:        "127.0.0.1:7383",
		RESPListen:        "127.0.0.1:7379",
		HTTPListen:        "127.0.0.1:7380",
		AdminListen:       "127.0.0.1:7381",
		ClusterPartitions: 256, // a few thousand keys each at a million keys
		ClusterCopies:     3,
		WriteQuorum:       2,
		ReadQuorum:        1,
		MemoryBytes:       defaultMemoryBytes,
		HugePages:         true,
		Durability:        DurabilitySync,
		TombstoneHorizon:  24 * time.Hour,
		SyncGuard:         1.5,            // what a client may take for chance
		ScrubEvery:        24 * time.Hour, // what rots is found within a day, at some hundred kilobytes a second for ten gigabytes
		IsolatedWrites:    IsolatedAccept,
		LogLevel:          "info",
		LogFormat:         "text",
	}
}

// Validate returns everything that is wrong, each with the forms of its
// setting, or nil.
func (c *Config) Validate() error {
	return errors.Join(
		c.validateNode(),
		c.validateDoors(),
		c.validateCluster(),
		c.validateStore(),
		oneOf("log.level", c.LogLevel, "debug", "info", "warn", "error"),
		oneOf("log.format", c.LogFormat, "text", "json"),
	)
}

func (c *Config) validateNode() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, Invalid("data-dir", "", "missing"))
	}
	errs = append(errs, validName("node.name", c.NodeName), validName("node.zone", c.NodeZone),
		validAddress("node.listen", c.NodeListen, true))
	if c.NodeAdvertise != "" {
		errs = append(errs, validAddress("node.advertise", c.NodeAdvertise, false))
	}
	host, _, err := net.SplitHostPort(c.NodeListen)
	switch {
	case err != nil: // said above
	case c.TLSDir == "" && !loopback(c.NodeListen):
		errs = append(errs, Invalid("tls.dir", "", fmt.Sprintf(
			"missing: without certificates a node listens on loopback alone, and node.listen is %s; make some with `edged ca init` and `edged ca issue`", c.NodeListen)))
	case c.NodeAdvertise == "" && unspecified(host):
		errs = append(errs, Invalid("node.advertise", "", fmt.Sprintf(
			"missing: node.listen is %s, which tells other nodes no address", c.NodeListen)))
	}
	return errors.Join(errs...)
}

func (c *Config) validateDoors() error {
	errs := []error{
		validAddress("resp.listen", c.RESPListen, true),
		validAddress("http.listen", c.HTTPListen, true),
		validAddress("admin.listen", c.AdminListen, true),
	}
	if _, _, err := net.SplitHostPort(c.AdminListen); err == nil && c.AdminTokenFile == "" && !loopback(c.AdminListen) {
		errs = append(errs, Invalid("admin.token-file", "", fmt.Sprintf(
			"missing: admin.listen is %s, which is not loopback, and whoever reaches it owns the node", c.AdminListen)))
	}
	return errors.Join(errs...)
}

func (c *Config) validateCluster() error {
	var errs []error
	if len(c.ClusterJoin) > maxJoin {
		errs = append(errs, Invalid("cluster.join", strconv.Itoa(len(c.ClusterJoin))+" addresses", fmt.Sprintf("want at most %d", maxJoin)))
	}
	for _, addr := range c.ClusterJoin {
		errs = append(errs, validAddress("cluster.join", addr, false))
	}
	if len(c.ClusterJoin) > 0 && c.TLSDir == "" {
		errs = append(errs, Invalid("tls.dir", "", "missing: a node joins others by the certificates of their cluster"))
	}
	if len(c.ClusterJoin) > 0 && c.ClusterFound {
		errs = append(errs, Invalid("cluster.found", "true", "cluster.join is set too, and a node either founds or joins"))
	}
	if p := c.ClusterPartitions; p < 1 || p > maxPartitions || p&(p-1) != 0 {
		errs = append(errs, Invalid("cluster.partitions", strconv.Itoa(p), fmt.Sprintf("want a power of two from 1 to %d", maxPartitions)))
	}
	errs = append(errs,
		between("cluster.copies", c.ClusterCopies, maxCopies, ""),
		between("cluster.write-quorum", c.WriteQuorum, c.ClusterCopies, ", the copies"),
		between("cluster.read-quorum", c.ReadQuorum, c.ClusterCopies, ", the copies"))
	return errors.Join(errs...)
}

func (c *Config) validateStore() error {
	var errs []error
	if c.MemoryBytes < minMemoryBytes {
		errs = append(errs, Invalid("memory", FormatSize(c.MemoryBytes), "want at least "+FormatSize(minMemoryBytes)))
	}
	if c.ScrubEvery != 0 && c.ScrubEvery < minScrub {
		errs = append(errs, Invalid("scrub.every", c.ScrubEvery.String(), "want 0, which is never, or at least "+minScrub.String()))
	}
	if c.TombstoneHorizon < minHorizon {
		errs = append(errs, Invalid("tombstones.horizon", c.TombstoneHorizon.String(), "want at least "+minHorizon.String()))
	}
	if n := c.StoreLimitBytes; n != 0 && n < minStoreLimitBytes {
		errs = append(errs, Invalid("store.limit", FormatSize(n), "want 0, for none, or at least "+FormatSize(minStoreLimitBytes)))
	}
	errs = append(errs, c.syncErrors()...)
	if n := c.SyncLanes; n < 0 || n > maxSyncLanes {
		errs = append(errs, Invalid("sync.lanes", strconv.Itoa(n), fmt.Sprintf("want 1 to %d, or 0, for half of the processors", maxSyncLanes)))
	}
	errs = append(errs,
		oneOf("durability", c.Durability, DurabilitySync, DurabilityRelaxed),
		oneOf("isolated-writes", c.IsolatedWrites, IsolatedAccept, IsolatedRefuse))
	return errors.Join(errs...)
}

// syncErrors says what is wrong with the settings of syncs that a running node takes.
func (c *Config) syncErrors() (errs []error) {
	if n := c.SyncRateBytes; n != 0 && n < minSyncRate {
		errs = append(errs, Invalid("sync.rate", FormatSize(n), "want 0, for no limit, or at least "+FormatSize(minSyncRate)))
	}
	if f := c.SyncGuard; f != 0 && (f < minSyncGuard || f > maxSyncGuard) || f != f {
		errs = append(errs, Invalid("sync.guard", formatFactor(f), fmt.Sprintf("want %v to %v, or 0, for off", minSyncGuard, maxSyncGuard)))
	}
	return errs
}

// SyncGuardPermille is SyncGuard in thousandths, as Options has it.
func (c *Config) SyncGuardPermille() int64 { return int64(math.Round(c.SyncGuard * 1000)) }

// lanes is SyncLanes as it is for a number of processors.
func (c *Config) lanes(processors int) int {
	if c.SyncLanes != 0 {
		return c.SyncLanes
	}
	return min(max(processors/2, 1), maxSyncLanes)
}

// Warnings says, a sentence each, what is allowed but should be known.
func (c *Config) Warnings() []string {
	var out []string
	if c.RESPPasswordFile == "" && !loopback(c.RESPListen) {
		out = append(out, fmt.Sprintf("resp.listen %s is not loopback and resp.password-file is not set: whoever reaches it reads and writes every key", c.RESPListen))
	}
	if c.RESPPasswordFile == "" && !loopback(c.HTTPListen) {
		out = append(out, fmt.Sprintf("http.listen %s is not loopback and resp.password-file is not set: whoever reaches it reads and writes every key", c.HTTPListen))
	}
	if c.Durability == DurabilityRelaxed {
		out = append(out, "durability is relaxed: a kill or a loss of power of all nodes at once, or of the only one, loses the last moments of acknowledged writes")
	}
	return out
}

// validAddress wants HOST:PORT; port 0 only where a free one can be taken.
func validAddress(key, addr string, listen bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Invalid(key, addr, "want HOST:PORT")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil:
		return Invalid(key, addr, fmt.Sprintf("port %q is no number up to 65535", port))
	case n == 0 && !listen:
		return Invalid(key, addr, "port 0 is no address to reach a node at")
	case !listen && unspecified(host):
		return Invalid(key, addr, "no host to reach a node at")
	}
	return nil
}

// validName wants a name that reads well in a certificate, a metric and a file,
// or nothing.
func validName(key, name string) error {
	if len(name) > maxNameBytes {
		return Invalid(key, name, fmt.Sprintf("%d bytes long, want at most %d", len(name), maxNameBytes))
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		inner := i > 0 && (r == '-' || r == '_' || r == '.')
		if !letter && !inner {
			return Invalid(key, name, "want letters, digits and, after the first, any of - _ .")
		}
	}
	return nil
}

func oneOf(key, value string, words ...string) error {
	for _, word := range words {
		if value == word {
			return nil
		}
	}
	return Invalid(key, value, fmt.Sprintf("want one of %v", words))
}

func between(key string, n, most int, why string) error {
	if n < 1 || n > most {
		return Invalid(key, strconv.Itoa(n), fmt.Sprintf("want 1 to %d%s", most, why))
	}
	return nil
}

// loopback says whether an address can be reached from this host alone.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}
