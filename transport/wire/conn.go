package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of CONN and CONN_ACK. Both are read before a peer is known to be sound,
// so they are small.
const (
	// MaxConnBytes bounds the body: every field at its limit comes to 2,231 bytes,
	// the rest is room for the optional fields of later versions.
	MaxConnBytes = 4 << 10
	// MaxClusterBytes bounds a cluster ID; ours are 32 hexadecimal digits.
	MaxClusterBytes = 64
	// MaxNameBytes bounds a node name, as in a certificate's SAN.
	MaxNameBytes = 64
	// MaxAddresses bounds the addresses a node says it can be reached at.
	MaxAddresses = 8
	// MaxAddressBytes bounds one address: a DNS name of 253 bytes fits, with a
	// port cut from what is left.
	MaxAddressBytes = 255
)

// Errors of CONN and CONN_ACK.
var (
	// ErrConnShort says that the frame ends inside a field.
	ErrConnShort = errors.New("frame ends early")
	// ErrConnLimit says that a field is longer than its limit.
	ErrConnLimit = errors.New("field over its limit")
)

// Conn is what a node says of itself when a connection begins. The layout is the
// same in every protocol version, so that a refusal can be understood.
type Conn struct {
	Version   uint16
	Cluster   string
	Name      string
	Node      uint64
	Boot      uint32
	Nonce     uint64   // random per process: tells two lives with one boot apart
	Addresses []string // host:port, best first

	// Attempt numbers the dials of this process; of two connections dialed the
	// same way the higher stays. Zero in an answer.
	Attempt uint64
	// Holds is the nonce of the process of this name that the dialer already has
	// a living connection with, 0 for none. Zero in an answer.
	Holds uint64
	// Partitions is the dialer's P, 0 while it is no member. An answer has it in
	// ConnAck.
	Partitions uint32
	// Copies is how many copies of each partition the node is set to keep, 0 where it
	// does not say: placement is a function of it, so all nodes must have one setting.
	Copies uint8
}

// ConnCode is how a CONN was taken.
type ConnCode uint8

// How a CONN may be answered. Part of the protocol: append only.
const (
	ConnOK           ConnCode = iota
	ConnBootConflict          // the boot is not above what is known; Boot has the one to use
	ConnForgotten             // the operator has forgotten this node
	ConnWrongCluster          // cluster or name differ from the certificate or from ours
	ConnVersion               // another protocol version
	ConnFenced                // another data directory has taken this node's place since
	ConnTwin                  // another process lives on this data directory, or on a copy of it
	ConnNobody                // the answerer is of the same directory, and has no place itself to defend
	ConnCopies                // a node that is to join is set to keep another number of copies; Self.Copies has the cluster's
)

// String names the code as messages and logs show it.
func (c ConnCode) String() string {
	names := [...]string{"OK", "BOOT_CONFLICT", "FORGOTTEN", "WRONG_CLUSTER", "VERSION", "FENCED", "TWIN", "NOBODY", "COPIES"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// ConnAck answers a Conn: how it was taken, and who answers.
type ConnAck struct {
	Code       ConnCode
	Partitions uint32 // P; 0 means that the answerer is not a member yet: ask again
	Boot       uint32 // with ConnBootConflict, the boot the dialer must take
	Self       Conn   // who answers
}

// Append appends the body of c to b. It fails if a field is over its limit, so
// that nothing is sent that a peer would refuse to read.
func (c Conn) Append(b []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return b, err
	}
	b = binary.LittleEndian.AppendUint16(b, c.Version)
	b = appendShort(b, c.Cluster)
	b = appendShort(b, c.Name)
	b = binary.LittleEndian.AppendUint64(b, c.Node)
	b = binary.LittleEndian.AppendUint32(b, c.Boot)
	b = binary.LittleEndian.AppendUint64(b, c.Nonce)
	b = append(b, byte(len(c.Addresses)))
	for _, a := range c.Addresses {
		b = appendShort(b, a)
	}
	b = binary.LittleEndian.AppendUint64(b, c.Attempt)
	b = binary.LittleEndian.AppendUint64(b, c.Holds)
	b = binary.LittleEndian.AppendUint32(b, c.Partitions)
	return append(b, c.Copies), nil
}

func (c Conn) check() error {
	switch {
	case len(c.Cluster) > MaxClusterBytes:
		return fmt.Errorf("cluster: %w", ErrConnLimit)
	case len(c.Name) > MaxNameBytes:
		return fmt.Errorf("name: %w", ErrConnLimit)
	case len(c.Addresses) > MaxAddresses:
		return fmt.Errorf("addresses: %w", ErrConnLimit)
	}
	for _, a := range c.Addresses {
		if len(a) > MaxAddressBytes {
			return fmt.Errorf("address: %w", ErrConnLimit)
		}
	}
	return nil
}

// ParseConn reads the body of a CONN. The result holds no part of b.
func ParseConn(b []byte) (Conn, error) {
	if len(b) > MaxConnBytes {
		return Conn{}, fmt.Errorf("parse conn: %w", ErrConnLimit)
	}
	r := connReader{rest: b}
	c := r.conn()
	if r.err != nil {
		return Conn{}, fmt.Errorf("parse conn: %w", r.err)
	}
	return c, nil
}

// Append appends the body of a to b, with the limits of Conn.Append.
func (a ConnAck) Append(b []byte) ([]byte, error) {
	b = append(b, byte(a.Code))
	b = binary.LittleEndian.AppendUint32(b, a.Partitions)
	b = binary.LittleEndian.AppendUint32(b, a.Boot)
	return a.Self.Append(b)
}

// ParseConnAck reads the body of a CONN_ACK. The result holds no part of b.
func ParseConnAck(b []byte) (ConnAck, error) {
	if len(b) > MaxConnBytes {
		return ConnAck{}, fmt.Errorf("parse conn ack: %w", ErrConnLimit)
	}
	r := connReader{rest: b}
	a := ConnAck{Code: ConnCode(r.u8()), Partitions: r.u32(), Boot: r.u32(), Self: r.conn()}
	if r.err != nil {
		return ConnAck{}, fmt.Errorf("parse conn ack: %w", r.err)
	}
	return a, nil
}

func appendShort(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

// connReader reads fields until the first error, then only zeros.
type connReader struct {
	rest []byte
	err  error
}

func (r *connReader) conn() Conn {
	c := Conn{
		Version: r.u16(),
		Cluster: r.short(MaxClusterBytes),
		Name:    r.short(MaxNameBytes),
		Node:    r.u64(),
		Boot:    r.u32(),
		Nonce:   r.u64(),
	}
	n := int(r.u8())
	if r.err == nil && n > MaxAddresses {
		r.err = ErrConnLimit
	}
	for range n {
		if r.err != nil {
			return c
		}
		c.Addresses = append(c.Addresses, r.short(MaxAddressBytes))
	}
	c.Attempt = r.u64()
	c.Holds = r.u64()
	c.Partitions = r.u32()
	if r.err == nil && len(r.rest) > 0 { // an earlier version does not say
		c.Copies = r.u8()
	}
	return c
}

// next returns n bytes of the frame, or n zeros (n <= 8) once it has ended.
func (r *connReader) next(n int) []byte {
	if r.err == nil && len(r.rest) < n {
		r.err = ErrConnShort
	}
	if r.err != nil {
		return make([]byte, min(n, 8))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *connReader) u8() uint8   { return r.next(1)[0] }
func (r *connReader) u16() uint16 { return binary.LittleEndian.Uint16(r.next(2)) }
func (r *connReader) u32() uint32 { return binary.LittleEndian.Uint32(r.next(4)) }
func (r *connReader) u64() uint64 { return binary.LittleEndian.Uint64(r.next(8)) }

func (r *connReader) short(limit int) string {
	n := int(r.u8())
	if r.err == nil && n > limit {
		r.err = ErrConnLimit
	}
	b := r.next(n)
	if r.err != nil {
		return ""
	}
	return string(b)
}
