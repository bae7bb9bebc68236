package core

import (
	"cmp"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// Ballot is what one owner really holds of a key, at a clock.
type Ballot struct {
	Name     string
	Fit      bool // what its copy holds agrees with its own record
	Clock    kv.Clock
	Beyond   bool // the object's context goes beyond that clock
	Versions []wire.HeldVersion
}

// Take is a version that a copy is to be given: it is asked of one of From, and
// taken only with this hash.
type Take struct {
	Version wire.HeldVersion
	From    []string
}

// Verdict is what the owners decided about a key, for one of them.
type Verdict struct {
	Take []Take
	Drop []kv.Dot
	Lost []kv.Dot // held, and verified by nobody: there is nothing to restore it from
	// Moved are dots of which owners differ and that may only be on their way: nothing
	// is decided of them. Movers are the owners, this one left out, by whose word they are.
	Moved  []kv.Dot
	Movers []string
}

// Deferred is a verdict of which nothing is done yet: all that was decided has moved.
func (v Verdict) Deferred() Verdict {
	moved := slices.Concat(v.Moved, v.Drop, v.Lost)
	for _, t := range v.Take {
		moved = append(moved, t.Version.Dot)
	}
	return Verdict{Moved: moved}
}

// Vote decides about a key by what all owners hold of it at one clock (L4). A dot
// that at least half of them hold is restored to the rest, any other is dropped; of
// copies of one dot that differ those count whose checksum fits. An owner whose copy
// disagrees with its own record has no vote, as long as any other has: that it lacks
// a dot says nothing. self is the owner it is decided for, one of the ballots.
func Vote(self string, ballots []Ballot) Verdict {
	voters := slices.DeleteFunc(slices.Clone(ballots), func(b Ballot) bool { return !b.Fit })
	if len(voters) == 0 {
		voters = ballots
	}
	var out Verdict
	for _, d := range dotsOf(ballots) {
		mine, holds := find(ballots, self, d)
		winner, from, holders := elect(voters, d)
		switch {
		case holders == 0 && 2*damaged(voters, d) >= len(voters):
			out.Lost = append(out.Lost, d)
		case holders == 0 || 2*holders < len(voters):
			if holds {
				out.Drop = append(out.Drop, d)
			}
		case !holds || mine != winner:
			out.Take = append(out.Take, Take{winner, slices.DeleteFunc(from, func(n string) bool { return n == self })})
		}
	}
	return out
}

// VoteTwice decides about a key of which the owners, whose clocks never meet, held
// what first says, and some time later second. The owners are the same, in the same
// order, and each has seen by then all that any had seen at first, which is seen. What
// differs is decided as by Vote if it is no more than a difference in time: an owner
// that lacks a version and had seen it knows it superseded, by something that is in
// seen, so that no other may hold it any more. A version that an owner had at first,
// or has not seen before, has moved, and is left to the next time.
func VoteTwice(self string, first, second []Ballot, seen kv.Clock) Verdict {
	var out Verdict
	moved := map[kv.Dot]bool{}
	for _, d := range dotsOf(second) {
		if !seen.Has(d) {
			moved[d] = true // it came since
			continue
		}
		if by := movers(first, second, d); len(by) > 0 {
			moved[d] = true
			out.Moved = append(out.Moved, d)
			if !slices.Contains(by, self) { // else the others' word settles nothing
				out.Movers = append(out.Movers, by...)
			}
		}
	}
	v := Vote(self, second)
	has := func(d kv.Dot) bool { return moved[d] }
	out.Drop, out.Lost = slices.DeleteFunc(v.Drop, has), slices.DeleteFunc(v.Lost, has)
	out.Take = slices.DeleteFunc(v.Take, func(t Take) bool { return moved[t.Version.Dot] })
	return out
}

// Followed returns what the owners together had seen at the first ballot, and who must be
// left out for the rest to have seen by the second all that any of the rest had seen at
// the first: nobody, where all have followed. The first ballot is that of the copy that
// it is decided for, which is never left out. An owner that lags is behind all others,
// and all others are behind one that says it has seen what nobody else has: whoever does
// not go together with the most is the one. Of two of which either may be it both are
// left out: one that shows a write to this copy alone, and late, would else have the
// other left out, and decide alone what a damaged copy has lost. given, if set, is what
// the others need have seen of what this copy alone had.
func Followed(first, second []Ballot, given *kv.Clock) (seen kv.Clock, behind []string) {
	named := func(ballots []Ballot) map[string]Ballot {
		out := map[string]Ballot{}
		for _, b := range ballots {
			out[b.Name] = b
		}
		return out
	}
	was, is := named(first), named(second)
	var in []string
	for _, b := range slices.Concat(first, second) {
		_, voted := was[b.Name]
		_, votes := is[b.Name]
		switch {
		case slices.Contains(in, b.Name) || slices.Contains(behind, b.Name):
		case voted && votes:
			in = append(in, b.Name)
		default: // no word of it can be held against another
			behind = append(behind, b.Name)
		}
	}
	self := first[0].Name
	covers := func(a, b string) bool {
		want := was[b].Clock
		if b == self && given != nil {
			want = *given
		}
		have := is[a].Clock
		return a == self && b == self || have.Covers(want)
	}
	for {
		var odd []string // those that go together with the fewest
		most := 0
		for _, a := range in[1:] {
			n := 0
			for _, b := range in {
				if !covers(a, b) {
					n++
				}
				if !covers(b, a) {
					n++
				}
			}
			if n > most {
				odd, most = nil, n
			}
			if n == most {
				odd = append(odd, a)
			}
		}
		if most == 0 {
			break
		}
		apart := func(a string) bool {
			return slices.ContainsFunc(odd, func(b string) bool { return a != b && !(covers(a, b) && covers(b, a)) })
		}
		if unclear := slices.DeleteFunc(slices.Clone(odd), func(a string) bool { return !apart(a) }); len(unclear) > 0 {
			odd = unclear
		} else {
			odd = odd[:1]
		}
		behind = append(behind, odd...)
		in = slices.DeleteFunc(in, func(n string) bool { return slices.Contains(odd, n) })
	}
	for _, n := range in {
		seen.Join(was[n].Clock)
	}
	return seen, behind
}

// movers returns the owners that lack a dot, and of which it cannot be said that they had
// seen it and know it superseded by something that was seen at first.
func movers(first, second []Ballot, d kv.Dot) (names []string) {
	for i := range second {
		if _, holds := second[i].version(d); holds {
			continue
		}
		if _, held := first[i].version(d); held || first[i].Beyond || !first[i].Clock.Has(d) {
			names = append(names, second[i].Name)
		}
	}
	return names
}

func dotsOf(ballots []Ballot) []kv.Dot {
	var dots []kv.Dot
	for _, b := range ballots {
		for _, v := range b.Versions {
			dots = append(dots, v.Dot)
		}
	}
	slices.SortFunc(dots, kv.Dot.Compare)
	return slices.Compact(dots)
}

func find(ballots []Ballot, name string, d kv.Dot) (wire.HeldVersion, bool) {
	for _, b := range ballots {
		if b.Name == name {
			return b.version(d)
		}
	}
	return wire.HeldVersion{}, false
}

func (b *Ballot) version(d kv.Dot) (wire.HeldVersion, bool) {
	for _, v := range b.Versions {
		if v.Dot == d {
			return v, true
		}
	}
	return wire.HeldVersion{}, false
}

// damaged counts the voters that hold a dot in a form that does not verify.
func damaged(voters []Ballot, d kv.Dot) (n int) {
	for _, b := range voters {
		if v, ok := b.version(d); ok && !v.Verified {
			n++
		}
	}
	return n
}

// elect returns the verified form of a dot that most voters hold, who holds it in
// this form, and how many hold it in any. Of forms with as many holders it is the
// same one on every node.
func elect(voters []Ballot, d kv.Dot) (winner wire.HeldVersion, from []string, holders int) {
	forms := map[wire.HeldVersion][]string{}
	for _, b := range voters {
		if v, ok := b.version(d); ok && v.Verified {
			forms[v] = append(forms[v], b.Name)
			holders++
		}
	}
	for v, names := range forms {
		c := cmp.Or(cmp.Compare(len(names), len(from)), cmp.Compare(v.Hash, winner.Hash),
			cmp.Compare(v.HLC, winner.HLC), cmp.Compare(v.ExpiresMS, winner.ExpiresMS))
		if c > 0 {
			winner, from = v, names
		}
	}
	return winner, from, holders
}
