package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/memberlist"
)

// metaFormat is the first byte of the meta; another one is not read.
const metaFormat = 1

var errMeta = errors.New("gossip meta does not parse")

// memberName is the name under which one life of a node gossips.
func memberName(node uint64, boot uint32) string {
	return fmt.Sprintf("%016x@%d", node, boot)
}

// parseMemberName is the reverse of memberName.
func parseMemberName(s string) (node uint64, boot uint32, err error) {
	left, right, ok := strings.Cut(s, "@")
	if !ok || len(left) != 16 {
		return 0, 0, fmt.Errorf("member name %q is not node@boot", s)
	}
	node, err = strconv.ParseUint(left, 16, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("member name %q: %w", s, err)
	}
	b, err := strconv.ParseUint(right, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("member name %q: %w", s, err)
	}
	return node, uint32(b), nil
}

// encodeMeta is what a node says of itself: its name and addresses. memberlist
// ends the process over a meta that is too large, so it is refused here.
func encodeMeta(name string, addresses []string) ([]byte, error) {
	if len(addresses) > maxAddresses {
		return nil, fmt.Errorf("%d addresses, at most %d", len(addresses), maxAddresses)
	}
	b := append([]byte{metaFormat, byte(len(name))}, name...)
	b = append(b, byte(len(addresses)))
	for _, a := range addresses {
		if len(a) > maxAddressBytes {
			return nil, fmt.Errorf("address %q is longer than %d bytes", a, maxAddressBytes)
		}
		b = append(append(b, byte(len(a))), a...)
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("name and addresses take %d bytes, at most %d", len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

// parseMeta is the reverse of encodeMeta; bytes after the last address are of a
// later version and skipped.
func parseMeta(b []byte) (name string, addresses []string, err error) {
	if len(b) == 0 || b[0] != metaFormat {
		return "", nil, errMeta
	}
	name, b, ok := cutShort(b[1:])
	if !ok || len(b) == 0 || b[0] > maxAddresses || len(name) > maxNameBytes {
		return "", nil, errMeta
	}
	n := b[0]
	b = b[1:]
	for range n {
		var a string
		if a, b, ok = cutShort(b); !ok {
			return "", nil, errMeta
		}
		addresses = append(addresses, a)
	}
	return name, addresses, nil
}

// cutShort takes a string with its length before it.
func cutShort(b []byte) (s string, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", nil, false
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n:], true
}
