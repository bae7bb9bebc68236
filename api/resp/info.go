package resp

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"edged.dev/edged/internal/kv"
)

// compatVersion is the Redis whose replies these are: some clients choose
// their commands by it.
const compatVersion = "7.0.15"

func cmdInfo(c *conn, args [][]byte) {
	c.count(nil) // this call counts among those told
	var b strings.Builder
	for _, s := range c.srv.sections() {
		if !wanted(s.Name, args[1:]) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + s.Name + "\r\n")
		for _, f := range s.Fields {
			b.WriteString(f.Name + ":" + f.Value + "\r\n")
		}
	}
	c.text(b.String())
}

func wanted(name string, asked [][]byte) bool {
	if len(asked) == 0 {
		return true
	}
	return slices.ContainsFunc(asked, func(a []byte) bool {
		return is(a, strings.ToLower(name)) || is(a, "all") || is(a, "default") || is(a, "everything")
	})
}

// sections are the server's own and the node's. Where both have one of a name
// the node's fields follow.
func (s *Server) sections() []Section {
	st := s.Stats()
	calls, failed, rejected := sum(st.Commands), sum(st.Errors), sum(st.Rejected)
	own := []Section{
		{"Server", []Field{
			{"redis_version", compatVersion},
			{"redis_mode", "standalone"},
			{"edged_version", s.cfg.Version},
			{"uptime_in_seconds", strconv.FormatInt(int64(s.cfg.Now().Sub(s.started)/time.Second), 10)},
		}},
		{"Clients", []Field{
			{"connected_clients", strconv.Itoa(st.Open)},
			{"maxclients", strconv.Itoa(s.cfg.Limits.Connections)},
		}},
		{"Stats", []Field{
			{"total_connections_received", unsigned(st.Accepted)},
			{"total_commands_processed", unsigned(calls)},
			{"total_net_input_bytes", unsigned(st.BytesIn)},
			{"total_net_output_bytes", unsigned(st.BytesOut)},
			{"total_error_replies", unsigned(failed)},
			{"rejected_by_limit", unsigned(rejected)},
		}},
	}
	if s.cfg.Info == nil {
		return own
	}
	for _, extra := range s.cfg.Info() {
		i := slices.IndexFunc(own, func(o Section) bool { return o.Name == extra.Name })
		if i < 0 {
			own = append(own, extra)
			continue
		}
		own[i].Fields = append(own[i].Fields, extra.Fields...)
	}
	return own
}

func sum(m map[string]uint64) uint64 {
	var n uint64
	for _, v := range m {
		n += v
	}
	return n
}

func unsigned(n uint64) string { return strconv.FormatUint(n, 10) }

func configCommands() []sub {
	return []sub{{"get", -3, configGet, "Return the settings whose names match the patterns."}}
}

// configGet knows what clients and redis-benchmark look for.
func configGet(c *conn, args [][]byte) {
	l := &c.srv.cfg.Limits
	var found []Field
	for _, f := range []Field{
		{"appendonly", "yes"},
		{"databases", "1"},
		{"maxclients", strconv.Itoa(l.Connections)},
		{"maxmemory", "0"},
		{"maxmemory-policy", "noeviction"},
		{"proto-max-bulk-len", strconv.Itoa(kv.MaxValueBytes)},
		{"save", ""},
		{"timeout", strconv.Itoa(int(l.IdleTimeout / time.Second))},
	} {
		if slices.ContainsFunc(args[2:], func(p []byte) bool { return glob(toLower(nil, p), []byte(f.Name)) }) {
			found = append(found, f)
		}
	}
	c.mapHead(len(found))
	for _, f := range found {
		c.bulk(f.Name)
		c.bulk(f.Value)
	}
}
