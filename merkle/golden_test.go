package merkle_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

// goldenItem is the digest of the item in TestItemDigestIsSipHashOfItsFields. A
// change of it makes old and new nodes see corruption where there is none.
var goldenItem = [16]byte{0x8b, 0x3c, 0x10, 0xf9, 0xb9, 0x5f, 0xf7, 0xf9, 0x77, 0x63, 0xfb, 0x73, 0xdd, 0x6c, 0x56, 0xdc}

func siphashKey(t *testing.T) (k0, k1 uint64) {
	t.Helper()
	mac := hmac.New(sha256.New, []byte("0123456789abcdef0123456789abcdef"))
	mac.Write([]byte("edged item digest 1"))
	sum := mac.Sum(nil)
	return binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])
}
