package replica

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"edged.dev/edged/internal/kv"
)

// A causality token is a version vector, bound by an HMAC to the cluster (whose
// key it is), the partition and the key: with a token for another key, 33 % of
// model runs lost acknowledged data. It holds what the reader of an object has
// seen: its dots, its explicit context and the answering copy's whole base.
const (
	tokenVersion  = 1
	tokenMACBytes = 16
)

func (r *Replica) mac(p kv.Partition, key, payload []byte) []byte {
	m := hmac.New(sha256.New, r.cfg.TokenKey[:])
	var head [5]byte
	head[0] = tokenVersion
	binary.LittleEndian.PutUint32(head[1:], uint32(p))
	m.Write(head[:])
	m.Write(binary.AppendUvarint(nil, uint64(len(key))))
	m.Write(key)
	m.Write(payload)
	return m.Sum(nil)[:tokenMACBytes]
}

// mint returns the token of a context, nil where it would be over the limit.
func (r *Replica) mint(p kv.Partition, key []byte, ctx kv.VV) []byte {
	payload := make([]byte, 0, 24*len(ctx))
	for _, d := range ctx {
		payload = binary.AppendUvarint(d.Actor.Append(payload), d.Seq)
	}
	if len(payload)+1+tokenMACBytes > kv.MaxTokenBytes {
		return nil
	}
	token := append([]byte{tokenVersion}, r.mac(p, key, payload)...)
	return append(token, payload...)
}

// context reads a token of this cluster, partition and key.
func (r *Replica) context(p kv.Partition, key, token []byte) (kv.VV, error) {
	bad := kv.Errorf(kv.CodeToken, "causality token is not one of this cluster for this key; read the key again and use the token of that answer")
	if len(token) < 1+tokenMACBytes || len(token) > kv.MaxTokenBytes || token[0] != tokenVersion {
		return nil, bad
	}
	mac, payload := token[1:1+tokenMACBytes], token[1+tokenMACBytes:]
	if !hmac.Equal(mac, r.mac(p, key, payload)) {
		return nil, bad
	}
	var ctx kv.VV
	for len(payload) > 0 {
		if len(payload) < kv.ActorBytes+1 {
			return nil, bad
		}
		a := kv.ActorFrom(payload)
		seq, n := binary.Uvarint(payload[kv.ActorBytes:])
		if n <= 0 {
			return nil, bad
		}
		payload = payload[kv.ActorBytes+n:]
		ctx = ctx.With(kv.Dot{Actor: a, Seq: seq})
	}
	return ctx, nil
}
