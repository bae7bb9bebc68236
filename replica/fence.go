package replica

import (
	"encoding/binary"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

// A read fence names one write by its dot: a copy that has not seen it is too
// stale to answer. It is another thing than a causality token and never a
// write's context, so it needs no secret: a forged one only costs its reader.

func fenceOf(d kv.Dot) []byte {
	return binary.AppendUvarint(d.Actor.Append(make([]byte, 0, kv.ActorBytes+binary.MaxVarintLen64)), d.Seq)
}

// seen reports whether this node's copy has seen what a read must not miss. A
// fence that does not parse asks for nothing.
func (r *Replica) seen(part *core.Part, req *kv.Request) bool {
	if len(req.Fence) <= kv.ActorBytes || req.Writes() {
		return true
	}
	seq, n := binary.Uvarint(req.Fence[kv.ActorBytes:])
	if n <= 0 {
		return true
	}
	sh := r.cfg.Set.Shard(part.Partition)
	return sh != nil && sh.Has(kv.Dot{Actor: kv.ActorFrom(req.Fence), Seq: seq})
}
