package node

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/transport"
)

const selfFormat = 1

// self is the node's record in its store: who the data directory is.
type self struct {
	Format     int       `json:"format"`
	Node       kv.NodeID `json:"node"`
	Boot       uint32    `json:"boot"`
	Cluster    string    `json:"cluster"`    // ID of the cluster, "" before there was one
	Name       string    `json:"name"`       // of the node
	Partitions uint32    `json:"partitions"` // 0: of no cluster yet
	Durability string    `json:"durability"`
	Clean      bool      `json:"clean"`          // the last life stopped in order
	Epoch      uint64    `json:"epoch"`          // of this directory's member entry, 0: it had none yet
	SeenMS     int64     `json:"seen_ms"`        // its last sign of life, Unix milliseconds
	ResetKey   []byte    `json:"reset_key"`      // of QUIC's stateless resets
	Twin       bool      `json:"twin,omitempty"` // another process lives on a copy of this directory, a peer said

	founding  bool  // this process founds the cluster
	offlineMS int64 // between the last sign of life and this start
	suspect   bool  // that life was relaxed, and ended uncleanly
}

// openSelf reads the record, or mints one, and takes a boot number above every
// earlier one. It is durable when openSelf returns, whatever the durability.
func openSelf(store *cache.Store, nowMS int64, durability string) (self, error) {
	s := self{Format: selfFormat}
	rec, found, err := store.Get(nil, cache.NodeKey())
	if err != nil {
		return s, fmt.Errorf("read node record: %w", err)
	}
	if found {
		if err := json.Unmarshal(rec, &s); err != nil {
			return s, fmt.Errorf("read node record: %w", err)
		}
		if s.Format != selfFormat {
			return s, fmt.Errorf("data directory has format %d; this version reads %d", s.Format, selfFormat)
		}
		s.offlineMS = max(0, nowMS-s.SeenMS)
		s.suspect = !s.Clean && s.Durability == DurabilityRelaxed
	} else {
		var b [8]byte
		s.ResetKey = make([]byte, 32)
		if _, err := rand.Read(b[:]); err != nil {
			return s, fmt.Errorf("mint node ID: %w", err)
		}
		if _, err := rand.Read(s.ResetKey); err != nil {
			return s, fmt.Errorf("mint reset key: %w", err)
		}
		s.Node = kv.NodeID(binary.LittleEndian.Uint64(b[:]))
	}
	s.Boot = max(s.Boot+1, uint32(nowMS/1000))
	s.Durability, s.Clean, s.SeenMS = durability, false, nowMS
	return s, s.save(store)
}

func (s *self) save(store *cache.Store) error { return s.put(store, true) }

func (s *self) put(store *cache.Store, sync bool) error {
	rec, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write node record: %w", err)
	}
	var b cache.Batch
	b.Set(cache.NodeKey(), rec)
	if err := store.Commit(&b, sync); err != nil {
		return fmt.Errorf("write node record: %w", err)
	}
	return nil
}

// belongs refuses certificates of another cluster or node than the directory's:
// its data would be merged into the other cluster's, and nothing takes it out again.
func (s *self) belongs(store *cache.Store, id transport.Identity) error {
	if s.Cluster == "" {
		s.Cluster, s.Name = id.Cluster, id.Name
		return s.save(store)
	}
	if s.Cluster != id.Cluster || s.Name != id.Name {
		return fmt.Errorf("%w: this data directory is of node %s of cluster %s, and the certificate of node %s of cluster %s: give it the certificate that it had (--tls-dir, EDGED_TLS_DIR, tls: {dir: ...}), or take an empty data directory",
			ErrConfig, s.Name, s.Cluster, id.Name, id.Cluster)
	}
	return nil
}

// enlisted keeps the epoch at which this directory holds its name.
func (s *self) enlisted(store *cache.Store, epoch uint64) error {
	s.Epoch = epoch
	return s.save(store)
}

// seen keeps a sign of life, so that the next start can tell how long the node
// was away. It need not be durable at once.
func (s *self) seen(store *cache.Store, nowMS int64) error {
	s.SeenMS = nowMS
	return s.put(store, false)
}

// stopped writes that the node stopped in order.
func (s *self) stopped(store *cache.Store, nowMS int64) error {
	s.Clean, s.SeenMS = true, nowMS
	return s.save(store)
}

func (s *self) resetKey() (key [32]byte) {
	copy(key[:], s.ResetKey)
	return key
}

// digestKey keys the set digests; tokenKey the causality tokens. Both come from
// the cluster key, by different ways.
func digestKey(id transport.Identity) merkle.Key { return merkle.KeyOf(id.ClusterKey[:]) }

func tokenKey(id transport.Identity) (key [32]byte) {
	mac := hmac.New(sha256.New, id.ClusterKey[:])
	mac.Write([]byte("edged causality token 1"))
	copy(key[:], mac.Sum(nil))
	return key
}

// clocks are the node's ways to tell the time.
type clocks struct {
	startNS int64 // boot-time clock at exec()
}

func newClocks() clocks {
	c := clocks{}
	c.startNS = processStart(c.boottime())
	return c
}

// boottime is CLOCK_BOOTTIME in nanoseconds: it goes on while the machine sleeps,
// so that a lease ends though nobody was there to see it.
func (clocks) boottime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("bug: no boot-time clock: " + err.Error())
	}
	return ts.Nano()
}

func (clocks) wallMS() int64 { return time.Now().UnixMilli() }

// sinceStart is how long ago the process began, or when a moment of the
// boot-time clock was after that, in milliseconds.
func (c clocks) sinceStart(ns int64) float64 { return float64(ns-c.startNS) / 1e6 }

// ticksPerSecond is the unit of /proc's start times, the same on every Linux.
const ticksPerSecond = 100

// processStart returns when the process began, by the boot-time clock; now where
// the kernel does not tell.
func processStart(now int64) int64 {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return now
	}
	_, rest, ok := strings.Cut(string(b), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	const startTime = 22 - 3 // field 22, counted from the one behind the name
	if !ok || len(fields) <= startTime {
		return now
	}
	ticks, err := strconv.ParseInt(fields[startTime], 10, 64)
	if err != nil {
		return now
	}
	return ticks * (1e9 / ticksPerSecond)
}
