package wire

import "edged.dev/edged/internal/kv"

// Heat is what a donor's clients read, as it tells one who plans its repair: the
// hottest partitions and prefixes of keys. It stands at the end of a HELLO_ACK whose
// HELLO asked for it.
type Heat struct {
	Partitions []PartHeat
	Prefixes   []PrefixHeat
}

// PartHeat is how often a partition is read, a second.
type PartHeat struct {
	Partition kv.Partition
	Reads     uint32
}

// PrefixHeat is how often keys with a prefix are read, a second.
type PrefixHeat struct {
	Prefix string
	Reads  uint32
}

// heat appends what there is to tell, behind everything else; nothing, if nothing is.
func (e *encoder) heat(h Heat) {
	if len(h.Partitions) == 0 && len(h.Prefixes) == 0 {
		return
	}
	parts, prefixes := h.Partitions[:min(len(h.Partitions), MaxHeatParts)], h.Prefixes[:min(len(h.Prefixes), MaxHeatPrefixes)]
	e.uvarint(uint64(len(parts)))
	prev := noPartition
	for _, p := range parts {
		e.partitionAfter(&prev, p.Partition)
		e.uvarint(uint64(p.Reads))
	}
	e.uvarint(uint64(len(prefixes)))
	for _, p := range prefixes {
		e.string(p.Prefix)
		e.uvarint(uint64(p.Reads))
	}
}

// heat reads what heat wrote. Who knows nothing of it tells nothing.
func (r *reader) heat() (h Heat) {
	if r.err != nil || len(r.b) == 0 {
		return h
	}
	prev := noPartition
	for range r.count("hot partitions", MaxHeatParts, 2) {
		h.Partitions = append(h.Partitions, PartHeat{Partition: r.partitionAfter(&prev), Reads: r.u32("reads")})
	}
	for range r.count("hot prefixes", MaxHeatPrefixes, 2) {
		h.Prefixes = append(h.Prefixes, PrefixHeat{Prefix: string(r.bytes("a hot prefix", MaxHeatPrefixBytes)), Reads: r.u32("reads")})
	}
	return h
}
