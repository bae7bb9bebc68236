package core

// Favours is what an owner remembers, for one partition, of the coordinators whose
// writes it acknowledged, its own among them: the newest of each of the last two.
//
// A coordinator with the lead goes by its own copy, since whoever else coordinates needs
// the acknowledgement of an owner that knows who is first. An owner may hold another to
// be first for a while: the lead's holder was paused, or their link lost what went one
// way, for no longer than a lease lasts. Neither side need notice. So an owner that
// acknowledged a write of another coordinator since it last told the lead's holder its
// clock says so in its next acknowledgement (Mixed), and the lead is asked for anew.
type Favours struct{ last, before favour }

type favour struct {
	coordinator string
	at          int64
}

// Note notes that a write of a coordinator was acknowledged, at a time that does not go
// back. Where the acknowledgement names another as the first, it is that one's favour:
// it does not count without it.
func (f *Favours) Note(coordinator string, now int64) {
	if f.last.coordinator != coordinator {
		f.before = f.last
	}
	f.last = favour{coordinator, now}
}

// Other reports whether a write of another coordinator was acknowledged at or after a
// time.
func (f *Favours) Other(coordinator string, since int64) bool {
	other := f.last
	if other.coordinator == coordinator {
		other = f.before
	}
	return other.coordinator != "" && other.at >= since
}
