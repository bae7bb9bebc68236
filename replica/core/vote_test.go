package core_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// ballot reads "NAME[!] FORM": ! says that the copy disagrees with its own record; a
// form is "-" (not held), a letter (a value), and ? behind it: its checksum does not fit.
func ballot(d kv.Dot, text string) core.Ballot {
	words := strings.Fields(text)
	name, unfit := strings.CutSuffix(words[0], "!")
	b := core.Ballot{Name: name, Fit: !unfit}
	if form, damaged := strings.CutSuffix(words[1], "?"); form != "-" {
		b.Versions = []wire.HeldVersion{{Dot: d, HLC: 5, Hash: uint64(form[0]), Verified: !damaged}}
	}
	return b
}

// TestVote is decided for a.
func TestVote(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		ballots []string
		want    string // "", "drop", "lost", or the value taken and from whom
	}{
		"all have it":                           {[]string{"a x", "b x", "c x"}, ""},
		"this one lost it":                      {[]string{"a -", "b x", "c x"}, "x b,c"},
		"half of two is enough":                 {[]string{"a -", "b x"}, "x b"},
		"and keeps it":                          {[]string{"a x", "b -"}, ""},
		"one of three is not":                   {[]string{"a x", "b -", "c -"}, "drop"},
		"nor does it give it":                   {[]string{"a -", "b x", "c -"}, ""},
		"half of four":                          {[]string{"a -", "b x", "c x", "d -"}, "x b,c"},
		"one of four":                           {[]string{"a x", "b -", "c -", "d -"}, "drop"},
		"two damaged ones do not outvote":       {[]string{"a! -", "b! -", "c x"}, "x c"},
		"of damaged copies alone all vote":      {[]string{"a! -", "b! -", "c! x"}, ""},
		"a damaged copy's extra is dropped":     {[]string{"a! x", "b -"}, "drop"},
		"damaged bytes are replaced":            {[]string{"a! x?", "b x", "c x"}, "x b,c"},
		"of two, the one that verifies":         {[]string{"a! y?", "b x"}, "x b"},
		"of two forms that verify, most":        {[]string{"a y", "b x", "c x"}, "x b,c"},
		"of as many, the same on all":           {[]string{"a x", "b y"}, "y b"},
		"and so on the other":                   {[]string{"a y", "b x"}, ""},
		"forms that differ are there":           {[]string{"a -", "b x", "c y", "d -"}, "y c"},
		"verified by nobody: nothing is done":   {[]string{"a! x?", "b! x?", "c! -"}, "lost"},
		"nobody verifies, and few ever held it": {[]string{"a! x?", "b -", "c -"}, "drop"},
		"not held, damaged at another":          {[]string{"a -", "b! x?", "c -"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := kv.Dot{Actor: actorOf("n1", 1), Seq: 3}
			var ballots []core.Ballot
			for _, b := range x.ballots {
				ballots = append(ballots, ballot(d, b))
			}
			require.Equal(t, x.want, told(core.Vote("a", ballots)))
		})
	}
}

// told is a verdict in words.
func told(v core.Verdict) string {
	switch {
	case len(v.Drop) > 0:
		return "drop"
	case len(v.Lost) > 0:
		return "lost"
	case len(v.Take) > 0:
		return string(rune(v.Take[0].Version.Hash)) + " " + strings.Join(v.Take[0].From, ",")
	case len(v.Moved) > 0:
		return "moved"
	}
	return ""
}

// What each owner makes of its own copy by the same votes is the same everywhere.
func TestAVoteMakesAllCopiesEqual(t *testing.T) {
	t.Parallel()
	forms := []string{"-", "x", "y", "x?", "y?"}
	names := []string{"a", "b", "c"}
	d := kv.Dot{Actor: actorOf("n1", 1), Seq: 3}
	for n := range len(forms) * len(forms) * len(forms) * 8 {
		var ballots []core.Ballot
		rest := n
		for i, name := range names {
			form := forms[rest%len(forms)]
			rest /= len(forms)
			mark := ""
			if n/(len(forms)*len(forms)*len(forms))>>i&1 == 1 || strings.HasSuffix(form, "?") {
				mark = "!" // a copy with a checksum that does not fit is never fit
			}
			ballots = append(ballots, ballot(d, name+mark+" "+form))
		}
		var results []string
		for i, name := range names {
			v := core.Vote(name, ballots)
			require.Empty(t, withSelf(v, name), "nobody is asked for what itself holds")
			switch {
			case len(v.Lost) > 0:
				results = append(results, "lost")
			case len(v.Drop) > 0:
				results = append(results, "-")
			case len(v.Take) > 0:
				results = append(results, string(rune(v.Take[0].Version.Hash)))
			case len(ballots[i].Versions) > 0:
				require.True(t, ballots[i].Versions[0].Verified, "%v", ballots)
				results = append(results, string(rune(ballots[i].Versions[0].Hash)))
			default:
				results = append(results, "-")
			}
		}
		require.Equal(t, results[0], results[1], "%+v", ballots)
		require.Equal(t, results[0], results[2], "%+v", ballots)
	}
}

func withSelf(v core.Verdict, name string) (out []string) {
	for _, x := range v.Take {
		for _, from := range x.From {
			if from == name {
				out = append(out, from)
			}
		}
	}
	return out
}

// TestVoteTwice is decided for a. A form at two moments is "x>-"; of a dot that an owner
// had not seen at first it begins with *, of an object whose context went beyond its
// clock then with +.
func TestVoteTwice(t *testing.T) {
	t.Parallel()
	d := kv.Dot{Actor: actorOf("n1", 1), Seq: 3}
	var seen kv.Clock
	seen.Add(d)
	for name, x := range map[string]struct {
		ballots []string
		want    string
		movers  string
	}{
		"lost at one":                         {[]string{"a ->-", "b x>x", "c x>x"}, "x b,c", ""},
		"there again at one":                  {[]string{"a x>x", "b ->-", "c ->-"}, "drop", ""},
		"on its way to one, and there":        {[]string{"a *->x", "b x>x", "c x>x"}, "", ""},
		"on its way to one all the time":      {[]string{"a *->-", "b x>x", "c x>x"}, "moved", ""},
		"just superseded at two":              {[]string{"a x>x", "b x>-", "c x>-"}, "moved", "b c"},
		"just superseded here":                {[]string{"a x>-", "b x>x", "c x>x"}, "moved", ""},
		"and at one":                          {[]string{"a x>-", "b x>-", "c x>x"}, "moved", ""},
		"superseded before it was seen":       {[]string{"a x>x", "b *->-", "c ->-"}, "moved", "b"},
		"superseded by what was not seen":     {[]string{"a x>x", "b +->-", "c ->-"}, "moved", "b"},
		"here, by what was not seen":          {[]string{"a +->-", "b x>x", "c x>x"}, "moved", ""},
		"gone everywhere":                     {[]string{"a x>-", "b x>-", "c x>-"}, "", ""},
		"damaged, and just superseded at two": {[]string{"a! x?>x?", "b x>-", "c x>-"}, "moved", "b c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first, second []core.Ballot
			for _, b := range x.ballots {
				who, forms, _ := strings.Cut(b, " ")
				was, is, _ := strings.Cut(forms, ">")
				unseen, beyond := strings.HasPrefix(was, "*"), strings.HasPrefix(was, "+")
				f := ballot(d, who+" "+strings.TrimLeft(was, "*+"))
				f.Beyond = beyond
				if !unseen {
					f.Clock = seen
				}
				first, second = append(first, f), append(second, ballot(d, who+" "+is))
			}
			v := core.VoteTwice("a", first, second, seen)
			require.Equal(t, x.want, told(v))
			require.Equal(t, x.movers, strings.Join(v.Movers, " "))
			require.Empty(t, told(core.VoteTwice("a", first, second, kv.Clock{})), "what came since is no difference")
		})
	}
}

// What an owner had seen at first, and by the second ballot, is the letters of the dots.
// The first is the copy that it is decided for.
func TestWhoDoesNotFollowIsLeftOut(t *testing.T) {
	t.Parallel()
	seen := func(text string) (c kv.Clock) {
		for _, ch := range text {
			c.Add(kv.Dot{Actor: actorOf("n1", 1), Seq: uint64(ch-'a') + 1})
		}
		return c
	}
	for name, x := range map[string]struct {
		ballots []string
		given   string
		behind  string
		seen    string
	}{
		"all have followed":                       {[]string{"a ab>abc", "b b>abc", "c ac>abc"}, "", "", "abc"},
		"one lags":                                {[]string{"a ab>abc", "b b>abc", "c c>bc"}, "", "c", "ab"},
		"one says that it has seen nothing":       {[]string{"a ab>abc", "b b>abc", "c >"}, "", "c", "ab"},
		"one has seen what nobody has":            {[]string{"a ab>abc", "b b>abc", "c z>abcz"}, "", "c", "ab"},
		"one takes back what it had seen":         {[]string{"a a>ab", "b a>ab", "c ab>a"}, "", "c", "a"},
		"of two":                                  {[]string{"a ab>abc", "b b>bc"}, "", "b", "ab"},
		"two lag":                                 {[]string{"a a>ab", "b b>ab", "c >", "d >b"}, "", "c d", "ab"},
		"this one lags behind all":                {[]string{"a a>a", "b b>ab", "c b>ab"}, "", "b c", "a"},
		"one is there at first":                   {[]string{"a a>ab", "b b>ab", "c z>-"}, "", "c", "ab"},
		"one comes later":                         {[]string{"a a>ab", "b b>ab", "c ->ab"}, "", "c", "ab"},
		"the rest does not lag behind who lags":   {[]string{"a a>ab", "b b>ab", "c c>c"}, "", "c", "ab"},
		"either of two may be the one":            {[]string{"a a>ax", "b a>a", "c ax>ax"}, "", "b c", "a"},
		"and the rest of four decide":             {[]string{"a a>ax", "b a>a", "c ax>ax", "d a>ax"}, "", "b c", "a"},
		"given are fewer than were seen":          {[]string{"a abx>abx", "b b>ab", "c b>ab"}, "ab", "", "abx"},
		"and one does not have what it was given": {[]string{"a abx>abx", "b b>ab", "c b>b"}, "ab", "c", "abx"},
		"of what is not given a copy keeps count": {[]string{"a abx>abx", "b b>b", "c b>b"}, "b", "", "abx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first, second []core.Ballot
			for _, b := range x.ballots {
				who, clocks, _ := strings.Cut(b, " ")
				was, is, _ := strings.Cut(clocks, ">")
				if was != "-" {
					first = append(first, core.Ballot{Name: who, Clock: seen(was)})
				}
				if is != "-" {
					second = append(second, core.Ballot{Name: who, Clock: seen(is)})
				}
			}
			var given *kv.Clock
			if x.given != "" {
				c := seen(x.given)
				given = &c
			}
			got, behind := core.Followed(first, second, given)
			slices.Sort(behind)
			require.Equal(t, x.behind, strings.Join(behind, " "))
			require.Equal(t, seen(x.seen), got)
		})
	}
}
