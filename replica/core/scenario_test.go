package core_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/merkle"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios gave as what they expect")

// TestScenarios runs testdata/*.txt: blocks of commands, a line of ----, and what
// the machine then wanted done. The commands are in scenario.do.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got := runScenario(t, string(text))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
				return
			}
			require.Equal(t, string(text), got)
		})
	}
}

func runScenario(t *testing.T, text string) string {
	var out strings.Builder
	s := newScenario(t)
	expected := false // the old expectation is skipped
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "----":
			out.WriteString("----\n")
			for _, e := range s.effects {
				out.WriteString(e + "\n")
			}
			s.effects, expected = nil, true
		case line == "":
			expected = false
			out.WriteString("\n")
		case expected:
		default:
			out.WriteString(line + "\n")
			if !strings.HasPrefix(line, "#") {
				s.do(strings.Fields(line))
			}
		}
	}
	return out.String()
}

// clocks is a copy as the machine sees it.
type copyOf struct {
	trust kv.Trust
	clock kv.Clock
}

type copies map[kv.Partition]*copyOf

func (c copies) Copy(p kv.Partition) core.Copy {
	x := c[p]
	if x == nil {
		return core.Copy{}
	}
	return core.Copy{Held: true, Trust: x.trust, Clock: x.clock.Clone(), Digest: merkle.Digest{}, Comparable: true}
}

func (c copies) Trust(p kv.Partition) kv.Trust {
	if x := c[p]; x != nil {
		return x.trust
	}
	return kv.New
}

func (c copies) Covers(p kv.Partition, clock kv.Clock) bool {
	x := c[p]
	return x != nil && x.clock.Covers(clock)
}

// scenario drives the machine of n1. There is one partition, 0, and the system
// partition, of which nothing is shown unless asked for.
type scenario struct {
	t       *testing.T
	now     int64
	began   int64
	copies  copies
	machine *core.Machine
	boots   map[string]uint32
	width   int // copies configured
	system  bool
	effects []string
	asked   map[uint64]core.SendHello
	askedAt map[uint64]int64
	told    map[uint64]kv.Clock

	holdTrust bool
}

const second = int64(time.Second)

func newScenario(t *testing.T) *scenario {
	s := &scenario{
		t: t, now: 1000 * second, began: 1000 * second, boots: map[string]uint32{}, width: 3,
		copies:  copies{0: {}, kv.System: {}},
		asked:   map[uint64]core.SendHello{},
		askedAt: map[uint64]int64{},
		told:    map[uint64]kv.Clock{},
	}
	s.start(2)
	return s
}

func (s *scenario) start(w int) {
	s.machine = core.New(core.Config{
		Self: "n1", Node: 1, Boot: 0, Copies: s.copies, W: w, Jitter: func() uint64 { return uint64(core.TickEvery) / 4 },
	})
}

func actorOf(name string, boot uint32) kv.Actor {
	return kv.Actor{Node: kv.NodeID(name[1] - '0'), Boot: boot, Rand: 1}
}

// clock reads "n1:5,n2:3": what was seen of each node's writes, of boot 1.
func (s *scenario) clock(text string) kv.Clock {
	var spans []kv.Span
	for part := range strings.SplitSeq(text, ",") {
		name, n, ok := strings.Cut(part, ":")
		if !ok {
			continue // "-": nothing
		}
		seq, err := strconv.ParseUint(n, 10, 64)
		require.NoError(s.t, err)
		spans = append(spans, kv.Span{Actor: actorOf(name, 1), Base: seq})
	}
	return kv.ClockOf(spans...)
}

func (s *scenario) trust(word string) kv.Trust {
	i := slices.Index([]string{"new", "suspect", "whole"}, word)
	require.GreaterOrEqual(s.t, i, 0, word)
	return kv.Trust(i)
}

func (s *scenario) state(word string) kv.State {
	i := slices.Index([]string{"cold", "catching_up", "live", "isolated", "degraded"}, word)
	require.GreaterOrEqual(s.t, i, 0, word)
	return kv.State(i)
}

// copyClock reads "TRUST CLOCK [state=STATE] [lost] [damaged]".
func (s *scenario) copyClock(name string, words []string) wire.CopyClock {
	c := wire.CopyClock{Actor: actorOf(name, max(1, s.boots[name])), Trust: s.trust(words[0]), Clock: s.clock(words[1])}
	for _, w := range words[2:] {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "state":
			c.State = s.state(value)
		case "lost":
			c.Lost = true
		case "damaged":
			c.Damaged = true
		}
	}
	return c
}

// do runs one command.
func (s *scenario) do(words []string) {
	name := ""
	if len(words) > 1 {
		name = words[1]
	}
	switch words[0] {
	case "w": // acknowledgements configured; begins anew
		w, err := strconv.Atoi(words[1])
		require.NoError(s.t, err)
		s.start(w)
	case "copies": // a partition has
		n, err := strconv.Atoi(words[1])
		require.NoError(s.t, err)
		s.width = n
	case "system": // show what concerns the system partition too
		s.system = true
	case "have": // TRUST CLOCK: this node's copy
		*s.copies[0] = copyOf{s.trust(words[1]), s.clock(words[2])}
	case "have-system":
		*s.copies[kv.System] = copyOf{s.trust(words[1]), s.clock(words[2])}
	case "layout": // the active members, and -NAME of those that left
		s.layout(words[1:])
	case "up": // NAME [boot]
		boot := uint32(1)
		if len(words) > 2 {
			n, err := strconv.ParseUint(words[2], 10, 32)
			require.NoError(s.t, err)
			boot = uint32(n)
		}
		s.boots[name] = boot
		s.step(core.PeerUp{Name: name, Node: actorOf(name, 1).Node, Boot: boot})
	case "down":
		s.step(core.PeerDown{Name: name, Boot: s.boots[name]})
	case "pong": // answers what was asked now, or [AGE] ago
		age := int64(0)
		if len(words) > 2 {
			age = s.duration(words[2])
		}
		s.step(core.Ponged{Name: name, Stamp: s.now - age})
	case "state": // NAME live|marked|no|holds [SYSTEM]
		s.step(core.Stated{Name: name, State: s.stated(words[2:])})
	case "pass":
		s.pass(s.duration(words[1]), words[2:])
	case "stopped": // the process sees nothing of this time
		s.now += s.duration(words[1])
	case "lapsed":
		s.step(core.Lapsed{})
	case "lease": // whether the copy has one now
		for _, p := range s.machine.Parts() {
			if p.Partition != kv.System {
				s.effects = append(s.effects, fmt.Sprintf("%6.2fs leased: %t", float64(s.now-s.began)/float64(second), s.now <= p.Until))
			}
		}
	case "calm": // whether nothing is under way that goes by time
		s.effects = append(s.effects, fmt.Sprintf("%6.2fs calm: %t", float64(s.now-s.began)/float64(second), s.machine.Calm()))
	case "loss": // why it may not be accepted, and the copies
		s.effects = append(s.effects, s.loss())
	case "hold-trust": // what is to be the copy's trust does not become durable from now on
		s.holdTrust = true
	case "decreed":
		s.step(core.Decreed{})
	case "fenced":
		s.step(core.Fenced{})
	case "looked": // fit|damaged
		s.step(core.Looked{Fit: words[1] == "fit", Text: "k is damaged"})
	case "healed": // fit|damaged CHANGED, or failed
		e := core.Healed{Failed: words[1] == "failed", Fit: words[1] == "fit"}
		if !e.Failed && words[2] != "0" {
			e.Changed, e.Text, e.Keys = len(words[2]), words[2]+" restored", []string{"k"}
		}
		s.step(e)
	case "broke":
		s.step(core.StreamBroke{Name: name})
	default:
		s.session(words[0], name, words[2:])
	}
}

func (s *scenario) loss() string {
	l := s.machine.Loss(0)
	text := fmt.Sprintf("%6.2fs loss refused=%q", float64(s.now-s.began)/float64(second), l.Refused)
	for _, c := range l.Copies {
		text += fmt.Sprintf(" %s %v damaged=%t", c.Name, c.Trust, c.Damaged)
	}
	return text
}

// session runs the commands of sessions and questions.
func (s *scenario) session(what, name string, words []string) {
	switch what {
	case "ack": // NAME TRUST CLOCK ...: the answer to the newest HELLO: differs
		s.answer(name, wire.HelloAck{Copies: []wire.CopyClock{s.copyClock(name, words)}})
	case "equal": // NAME TRUST: equal clocks
		c := s.copyClock(name, slices.Insert(words, 1, "-"))
		c.Clock = s.told[s.newest(name)]
		s.answer(name, wire.HelloAck{Equal: []wire.CopyClock{c}})
	case "late": // NAME TRUST CLOCK ...: the answer to the oldest HELLO, though a newer one was sent
		n := s.oldest(name)
		s.step(core.HelloAnswered{
			Name: name, Session: n, Wants: s.asked[n].Wants, AskAt: s.askedAt[n],
			Ack: wire.HelloAck{Copies: []wire.CopyClock{s.copyClock(name, words)}},
		})
	case "late-cut": // NAME: the oldest session's lane is cut, though a newer one began
		s.step(core.PartEnded{Name: name, Session: s.oldest(name), Failed: true})
	case "ack-system":
		c := s.copyClock(name, words)
		c.Partition = kv.System
		s.answer(name, wire.HelloAck{Copies: []wire.CopyClock{c}})
	case "ack-nothing": // it has no copy
		s.answer(name, wire.HelloAck{})
	case "busy":
		s.answer(name, wire.HelloAck{Code: wire.HelloBusy})
	case "hello-fails":
		n := s.newest(name)
		s.step(core.HelloAnswered{Name: name, Session: n, Wants: s.asked[n].Wants, Failed: true, AskAt: s.askedAt[n]})
	case "ended": // NAME CLOCK: the lane brought it, in order
		n := s.newest(name)
		s.copies[0].clock.Join(s.clock(words[0]))
		s.step(core.PartEnded{Name: name, Session: n})
		s.step(core.SessionEnded{Name: name, Session: n, Parts: []kv.Partition{0}})
	case "cut":
		n := s.newest(name)
		s.step(core.PartEnded{Name: name, Session: n, Failed: true})
		s.step(core.SessionEnded{Name: name, Session: n})
	case "done": // NAME good|bad
		ack := wire.DoneAck{Compared: []kv.Partition{0}}
		if words[0] == "bad" {
			ack.Bad = ack.Compared
		}
		s.step(core.DoneAnswered{Name: name, Parts: []kv.Partition{0}, Ack: ack})
	case "hello": // NAME TRUST CLOCK: its own
		c := s.copyClock(name, words)
		if s.machine.Greet(name, c) {
			s.effects = append(s.effects, name+" is told that it lost something")
		}
		s.step(core.HelloAsked{Name: name, Node: actorOf(name, 1).Node, Copies: []wire.CopyClock{c}})
	case "acked":
		s.step(core.Acked{Name: name, Copies: []wire.CopyClock{s.copyClock(name, words)}})
	case "clocks":
		s.step(core.ClocksAnswered{Name: name, Boot: s.boots[name], Copies: []wire.CopyClock{s.copyClock(name, words)}, AskAt: s.now})
	case "tick": // NAME equal | TRUST CLOCK ...
		ack := wire.TickAck{Code: wire.HelloEqual}
		if words[0] != "equal" {
			ack = wire.TickAck{Copies: []wire.CopyClock{s.copyClock(name, words)}}
		}
		s.step(core.TickAnswered{Name: name, Boot: s.boots[name], Ack: ack, AskAt: s.now})
	default:
		s.t.Fatalf("command %q is not known", what)
	}
}

func (s *scenario) stated(words []string) wire.State {
	serving := map[string]wire.Serving{
		"live": wire.ServingLive, "marked": wire.ServingMarked, "no": wire.NotServing, "holds": wire.StandIn,
	}
	st := wire.State{Parts: []wire.Serving{serving[words[0]]}}
	if len(words) > 1 {
		st.System = serving[words[1]]
	}
	return st
}

func (s *scenario) newest(name string) uint64 {
	n := uint64(0)
	for id, h := range s.asked {
		if h.Name == name {
			n = max(n, id)
		}
	}
	require.NotZero(s.t, n, "%s was not asked", name)
	return n
}

func (s *scenario) oldest(name string) uint64 {
	n := s.newest(name)
	for id, h := range s.asked {
		if h.Name == name {
			n = min(n, id)
		}
	}
	return n
}

func (s *scenario) answer(name string, ack wire.HelloAck) {
	n := s.newest(name)
	s.step(core.HelloAnswered{Name: name, Session: n, Ack: ack, Wants: s.asked[n].Wants, AskAt: s.askedAt[n]})
}

func (s *scenario) layout(names []string) {
	members := make([]layout.Member, len(names))
	for i, name := range names {
		members[i] = layout.Member{Name: strings.TrimPrefix(name, "-"), Weight: 1}
		if strings.HasPrefix(name, "-") {
			members[i].Status = layout.Left
		}
	}
	l, err := layout.New(1, s.width, members)
	require.NoError(s.t, err)
	s.step(core.LayoutChanged{Layout: l})
}

// pass lets time go by in steps of 20 ms. With names, those answer every PING;
// "deaf" passes it in one leap, as in a process that was stopped.
func (s *scenario) pass(d int64, names []string) {
	if slices.Equal(names, []string{"deaf"}) {
		s.now += d
		s.step(core.Passed{})
		return
	}
	for end := s.now + d; s.now < end; {
		s.now = min(end, s.now+20*second/1000)
		for _, name := range names {
			if s.now%(500*second/1000) == 0 {
				s.step(core.Ponged{Name: name, Stamp: s.now})
			}
		}
		s.step(core.Passed{})
	}
}

func (s *scenario) duration(text string) int64 {
	d, err := time.ParseDuration(text)
	require.NoError(s.t, err)
	return int64(d)
}

func (s *scenario) step(ev core.Event) {
	for _, e := range s.machine.Step(s.now, ev) {
		if h, ok := e.(core.SendHello); ok {
			s.asked[h.Session], s.askedAt[h.Session], s.told[h.Session] = h, s.now, s.copies[0].clock.Clone()
		}
		if text := s.show(e); text != "" {
			s.effects = append(s.effects, fmt.Sprintf("%6.2fs %s", float64(s.now-s.began)/float64(second), text))
		}
	}
}

// show is the line of an effect, "" for one that is not shown.
func (s *scenario) show(e core.Effect) string {
	switch e := e.(type) {
	case core.SetPart:
		if e.LeaseOnly || e.Part.Partition == kv.System && !s.system {
			return ""
		}
		return s.part(e.Part)
	case core.SetTrust:
		if !s.holdTrust {
			s.copies[e.Partition].trust = e.Trust // durable at once
		}
		if e.Partition != kv.System || s.system {
			return "trust " + s.name(e.Partition) + e.Trust.String()
		}
	case core.SendHello:
		return fmt.Sprintf("hello %s wants=%s", e.Name, s.names(e.Wants))
	case core.SendDone:
		return "done " + e.Name
	case core.Compare:
		return fmt.Sprintf("compare %s %s", e.Name, s.names(e.Parts))
	case core.Heal:
		all := ""
		if e.All {
			all = " all"
		}
		return fmt.Sprintf("heal %s with %s%s", s.names([]kv.Partition{e.Partition}), strings.Join(e.Owners, ","), all)
	case core.SendClocks:
		return fmt.Sprintf("clocks? %s %s", e.Name, s.names(e.Parts))
	case core.SendTick:
		return "tick " + e.Name
	case core.PingAll:
		return "ping all"
	case core.Note:
		switch e.Kind {
		case "alarm":
			return "ALARM " + e.Text
		case "corruption":
			return "CORRUPTION " + e.Text
		}
	}
	return ""
}

func (s *scenario) part(p core.Part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s", s.name(p.Partition), p.State)
	if p.Verified {
		b.WriteString(" verified")
	}
	if p.Lead {
		b.WriteString(" lead")
	}
	fmt.Fprintf(&b, " serving=%s (%s)", strings.Join(p.Serving, ","), p.Reason)
	return b.String()
}

func (s *scenario) name(p kv.Partition) string {
	if p == kv.System {
		return "system "
	}
	return ""
}

// names lists partitions; the system partition only where it is shown.
func (s *scenario) names(parts []kv.Partition) string {
	var out []string
	for _, p := range parts {
		switch {
		case p != kv.System:
			out = append(out, strconv.Itoa(int(p)))
		case s.system:
			out = append(out, "system")
		}
	}
	return strings.Join(out, ",")
}
