package replica

// OpenSessions returns how many sessions in which this node receives are kept,
// and how many it streams.
func (r *Replica) OpenSessions() (in, out int) {
	r.sessions.mu.Lock()
	defer r.sessions.mu.Unlock()
	return len(r.sessions.pulls), r.sessions.outgoing
}
