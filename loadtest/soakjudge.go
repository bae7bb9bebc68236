package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
)

const (
	// livenessLimit is how long operations may go on failing once faults are over.
	livenessLimit = 5 * time.Second
	// expirySlack is how much later than asked a node may let a value expire.
	expirySlack = time.Second
)

// Breach is an invariant that did not hold.
type Breach struct {
	Invariant string `json:"invariant"`
	Key       string `json:"key,omitempty"`
	What      string `json:"what"`
}

// judgement is what is said of a history and of the copies at its end.
type judgement struct {
	breaches []Breach
	marked   int // reads that said themselves that they may be old
	fenced   int // reads behind the session's own write
	returned int // reads at a node that had come back, of its own keys

	h     *history
	where placement
	dumps []nodeDump
}

func (j *judgement) breach(invariant, key, format string, args ...any) {
	j.breaches = append(j.breaches, Breach{invariant, key, fmt.Sprintf(format, args...)})
}

// judgeSoak judges a history and the dumps of all nodes. It is linear in the number of keys;
// a read of one looks at that key's changes.
func judgeSoak(h *history, where placement, dumps []nodeDump) *judgement {
	slices.SortStableFunc(h.Ops, func(a, b *op) int { return int(a.Invoked - b.Invoked) })
	j := &judgement{h: h, where: where, dumps: dumps}
	keys := h.byKey()
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		j.key(keys[name])
	}
	j.strangers(keys)
	j.converged()
	j.dots(keys)
	j.liveness()
	return j
}

// partition is a key's.
func (j *judgement) partition(key string) uint32 {
	return uint32(kv.PartitionOf(kv.Hash([]byte(key)), j.where.partitions))
}

// key judges one key: its copies, and what was read of it.
func (j *judgement) key(k *keyHistory) {
	id := j.partition(k.key)
	bySum := map[uint64]string{}
	for value := range k.wrote {
		bySum[xxh3.HashString(value)] = value
	}
	for _, d := range j.dumps {
		if !j.where.owns(d.node, id) {
			continue
		}
		held := map[string]bool{}
		for _, v := range d.liveOf(id, k.key) {
			value, ok := bySum[v.sum]
			if !ok || k.wrote[value].Result == resultFail {
				j.breach("I2", k.key, "%s holds a value that nobody wrote, hash %016x, dot %v", d.node, v.sum, v.dot)
				continue
			}
			held[value] = true
		}
		j.copy(k, d.node, held)
	}
	for _, r := range k.reads {
		if r.ok() {
			j.read(k, r, id)
		}
	}
}

// liveOf returns the live versions of a key.
func (d nodeDump) liveOf(id uint32, key string) []version {
	p := d.partitions[id]
	if p == nil {
		return nil
	}
	var out []version
	from := sort.Search(len(p.versions), func(i int) bool { return p.versions[i].key >= key })
	for _, v := range p.versions[from:] {
		if v.key != key {
			break
		}
		if !v.tombstone {
			out = append(out, v)
		}
	}
	return out
}

// copy judges what one owner holds of a key: I1 and I3.
func (j *judgement) copy(k *keyHistory, node string, held map[string]bool) {
	explained := k.explained(held, j.h.Ended)
	for _, w := range k.changes {
		if w.writes() && w.ok() && !held[w.Value] && !explained[w] && !j.h.excused(w) {
			j.breach("I1", k.key, "%s lacks %s, acknowledged with %d copies", node, w.Value, w.Copies)
		}
	}
	for value := range held {
		if by := j.superseder(k, value); by != nil {
			j.breach("I3", k.key, "%s holds %s, which %s %s superseded", node, value, by.Kind, by.Value)
		}
	}
}

// superseder is an acknowledged change that certainly superseded a value, if there is one.
func (j *judgement) superseder(k *keyHistory, value string) *op {
	for _, x := range k.covered[value] {
		if x.ok() && !j.h.excused(x) {
			return x
		}
	}
	return nil
}

// explained is the changes that need not be seen: superseded by what is held, by a
// delete, by what has expired, or by something that is explained itself.
func (k *keyHistory) explained(held map[string]bool, at time.Duration) map[*op]bool {
	out := map[*op]bool{}
	var queue []*op
	add := func(o *op) {
		if !out[o] {
			out[o] = true
			queue = append(queue, o)
		}
	}
	for _, o := range k.changes {
		if o.removes() || held[o.Value] || o.TTL > 0 && o.Invoked+o.TTL <= at {
			add(o)
		}
	}
	next := 0 // of the changes, in the order of their beginnings
	for len(queue) > 0 {
		x := queue[0]
		queue = queue[1:]
		for _, v := range x.Covers {
			if w := k.wrote[v]; w != nil {
				add(w)
			}
		}
		for next < len(k.changes) && k.changes[next].Invoked < x.unseen() {
			add(k.changes[next])
			next++
		}
	}
	return out
}

// read judges an answer: I2, what has expired, I8 and I18.
func (j *judgement) read(k *keyHistory, r *op, id uint32) {
	for _, v := range r.Values {
		w := k.wrote[v]
		if w == nil || w.Result == resultFail || w.Invoked > r.Returned {
			j.breach("I2", k.key, "%s showed %s, which nobody had written", j.h.Names[r.Node], v)
			return
		}
		if w.TTL > 0 && w.ok() && w.Returned+w.TTL+expirySlack < r.Invoked {
			j.breach("I3", k.key, "%s showed %s, which had expired", j.h.Names[r.Node], v)
		}
	}
	if r.State != "" {
		j.marked++
		return
	}
	j.ownWrite(k, r)
	if r.Kind == opGet { // over RESP nobody says that he is isolated
		j.rejoined(k, r, id)
	}
}

// ownWrite judges a read behind the session's own write (I8).
func (j *judgement) ownWrite(k *keyHistory, r *op) {
	own := k.wrote[r.After]
	if r.After == "" || own == nil {
		return
	}
	j.fenced++
	for _, v := range r.Values {
		if slices.Contains(own.Covers, v) {
			j.breach("I8", k.key, "%s showed %s behind the session's own %s, which superseded it", j.h.Names[r.Node], v, own.Value)
		}
	}
	if r.Kind == opRead && len(r.Values) > 0 {
		return
	}
	if !slices.Contains(r.Values, own.Value) && !k.mayBeGone(own, r) && !j.h.excused(own) {
		j.breach("I8", k.key, "%s showed %v behind the session's own %s", j.h.Names[r.Node], r.Values, own.Value)
	}
}

// mayBeGone reports whether a read may well not show a write.
func (k *keyHistory) mayBeGone(w, r *op) bool {
	if w.TTL > 0 && w.Invoked+w.TTL <= r.Returned {
		return true
	}
	for _, x := range k.covered[w.Value] {
		if x.Invoked < r.Returned {
			return true
		}
	}
	return k.any(w, r, func(x *op) bool { return w.Invoked < x.unseen() })
}

// any reports whether a change that was not over when w began, and had begun when r ended,
// is as wanted.
func (k *keyHistory) any(w, r *op, wanted func(*op) bool) bool {
	for _, x := range k.changes {
		if x.Invoked >= r.Returned {
			return false
		}
		if x != w && x.until() > w.Invoked && wanted(x) {
			return true
		}
	}
	return false
}

// rejoined judges an answer of a node that came back, about a key of its own (I18): it is
// no older than what a quorum had acknowledged before its start.
func (j *judgement) rejoined(k *keyHistory, r *op, id uint32) {
	start, ok := j.h.startBefore(r.Node, r.Invoked)
	if !ok || !slices.Contains(j.where.owners[id], j.h.Names[r.Node]) {
		return
	}
	j.returned++
	before := func(x *op) bool { return x.ok() && x.Copies >= j.h.Quorum && x.Returned < start }
	for _, v := range r.Values {
		for _, x := range k.covered[v] {
			if before(x) {
				j.breach("I18", k.key, "%s, started at %s, showed %s, which %s %s had superseded", j.h.Names[r.Node], start, v, x.Kind, x.Value)
			}
		}
	}
	if len(r.Values) > 0 {
		return
	}
	var last *op
	for _, x := range k.changes {
		if x.writes() && before(x) {
			last = x
		}
	}
	if last != nil && last.TTL == 0 && !k.any(last, r, func(x *op) bool { return x.removes() || x.TTL > 0 }) {
		j.breach("I18", k.key, "%s, started at %s, did not find it, after %s", j.h.Names[r.Node], start, last.Value)
	}
}

// strangers looks for keys and places that are nobody's: I2 and I10.
func (j *judgement) strangers(keys map[string]*keyHistory) {
	for _, d := range j.dumps {
		kept := j.h.Restarted[slices.Index(j.h.Names, d.node)]
		for _, id := range slices.Sorted(maps.Keys(d.partitions)) {
			live := d.partitions[id].live()
			if !kept && !j.where.owns(d.node, id) && len(live) > 0 {
				j.breach("I10", live[0].key, "%s holds %d versions of partition %d, whose owners are %v", d.node, len(live), id, j.where.owners[id])
			}
			for _, v := range live {
				if keys[v.key] == nil && id != uint32(kv.System) {
					j.breach("I2", v.key, "%s holds a key that nobody wrote", d.node)
				}
			}
		}
	}
}

// converged holds the copies of the owners against each other (I4).
func (j *judgement) converged() {
	v := verify(nil, j.where, j.dumps)
	for _, fault := range v.faults {
		j.breach("I4", "", "%s", fault)
	}
}

// dots looks for one that is of two values (I5), in the copies and in all that was read. An
// actor counts in each partition by itself.
func (j *judgement) dots(keys map[string]*keyHistory) {
	seen := map[string]string{}
	add := func(dot, key string, sum uint64) {
		dot = fmt.Sprintf("%d/%s", j.partition(key), dot)
		what := fmt.Sprintf("%s %016x", key, sum)
		if was, ok := seen[dot]; ok && was != what {
			j.breach("I5", key, "dot %s is of %s and of %s", dot, was, what)
		}
		seen[dot] = what
	}
	for _, d := range j.dumps {
		for id, p := range d.partitions {
			for _, v := range p.live() {
				if id != uint32(kv.System) {
					add(v.dot.String(), v.key, v.sum)
				}
			}
		}
	}
	for _, k := range keys {
		for _, r := range k.reads {
			for i, dot := range r.Dots {
				add(dot, k.key, xxh3.HashString(r.Values[i]))
			}
		}
	}
}

// liveness looks for operations that still failed when they had to succeed (I15).
func (j *judgement) liveness() {
	for _, o := range j.h.Ops {
		if !o.ok() && o.Invoked > j.h.Healed+livenessLimit {
			j.breach("I15", o.Key, "%s at %s, %s after the last fault: %s: %s",
				o.Kind, j.h.Names[o.Node], (o.Invoked - j.h.Healed).Round(time.Millisecond), o.Result, o.Why)
		}
	}
}

// tell writes all that is known of a breach's key.
func (j *judgement) tell(w io.Writer, b Breach) {
	fmt.Fprintf(w, "\n%s %s: %s\n", b.Invariant, b.Key, b.What)
	if b.Key == "" {
		return
	}
	for _, o := range j.h.Ops {
		if o.Key == b.Key {
			fmt.Fprintf(w, "  %9.3f-%9.3f s %s client %d %s %s ttl %s token of %q after %q: %s %q %s copies %d %s\n", o.Invoked.Seconds(), o.Returned.Seconds(),
				j.h.Names[o.Node], o.Session, o.Kind, o.Value, o.TTL, o.Covers, o.After, o.Result, o.Values, o.State, o.Copies, o.Why)
		}
	}
	id := j.partition(b.Key)
	fmt.Fprintf(w, "  partition %d, of %v\n", id, j.where.owners[id])
	for _, d := range j.dumps {
		for _, v := range d.liveOf(id, b.Key) {
			fmt.Fprintf(w, "  %s holds %016x, dot %v\n", d.node, v.sum, v.dot)
		}
	}
}
