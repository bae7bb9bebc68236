package sim

import "edged.dev/edged/internal/kv"

func (w *World) randomRead() {
	if n := w.someNode(); n != nil {
		w.Read(n, w.rng.IntN(len(w.keys)))
	}
}

// Read reads a key by both ways and holds the answer against the dump.
func (w *World) Read(n *Node, k int) {
	p := w.partOf(k)
	sh := n.shard(p)
	o, _, err := sh.Read(w.keys[k])
	w.must(err)
	w.saw(w.keys[k], o)
	var got, want opset
	for _, v := range o.Versions {
		got.add(w.byDot[identity{p, v.Dot}].Index)
	}
	n.copies[p].present.each(func(i int) {
		if w.ops[i].Key == k {
			want.add(i)
		}
	})
	w.show(n, k, o)
	if w.bug == BugFold {
		w.fold(n, k, o)
	}
	if got != want {
		w.fail("read", "n%d: key %d reads %v", n.index, k, o.Versions)
	}
	value, shown, handled := sh.ReadFast(nil, kv.Hash(w.keys[k]), w.keys[k])
	if !handled {
		return
	}
	found := shown.Found && (shown.ExpiresMS == 0 || shown.ExpiresMS > w.now)
	live := o.Live(nil, w.now)
	if found != (len(live) > 0) || found && string(value) != string(live[0].Value) {
		w.fail("read", "n%d: key %d reads %q from memory", n.index, k, value)
	}
}

// show tells of what lies side by side behind a key at a node.
func (w *World) show(n *Node, key int, o kv.Object) {
	live := o.Live(nil, w.now)
	if len(live) < 2 {
		return
	}
	w.stats.Siblings++
	if w.shown != nil {
		w.shown(n.index, w.keys[key], live)
	}
}

// showAll tells of all keys at all owners.
func (w *World) showAll() {
	if w.shown == nil {
		return
	}
	for _, n := range w.owners() {
		for k := range w.keys {
			o, _, err := n.shard(w.partOf(k)).Read(w.keys[k])
			w.must(err)
			w.show(n, k, o)
		}
	}
}

// view is what a copy shows of a key: the newest of what lies side by side, as every
// policy shows it that does not merge.
func (w *World) view(cs *copyState, key int) kv.Dot {
	o := &cs.objects[key]
	if w.bug != BugTombstoneView {
		if live := o.Live(nil, w.now); len(live) > 0 {
			return live[0].Dot
		}
		return kv.Dot{}
	}
	var newest kv.Version
	for _, v := range o.Versions {
		if v.Newer(newest) {
			newest = v
		}
	}
	if newest.Tombstone() {
		return kv.Dot{}
	}
	return newest.Dot
}

// fold is what a merge in the background would do, in a broken run: one new version
// takes the place of those that lie side by side, and has what they have.
func (w *World) fold(n *Node, key int, read kv.Object) {
	if len(read.Live(nil, w.now)) > 1 && !n.quarantined(w.partOf(key)) {
		w.Write(n, Put{Key: key, Held: true, fold: true})
	}
}

// judgeFolds looks whether what a fold was made of is there again: a client's write
// that the copy knows superseded it, and did not know of the fold.
func (w *World) judgeFolds(n *Node, cs *copyState, known opset) {
	var covered opset
	known.each(func(i int) {
		if op := w.ops[i]; op.folds == (opset{}) {
			covered.join(&op.cover)
		}
	})
	cs.present.each(func(i int) {
		w.ops[i].folds.each(func(source int) {
			if covered.has(source) {
				w.fail("I3", "n%d: op%d of k%d was covered, and is back in op%d", n.index, source, w.ops[i].Key, i)
			}
		})
	})
}
