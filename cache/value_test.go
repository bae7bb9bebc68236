package cache_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// oneActor is the table of actors of a store that knows one.
type oneActor struct{}

func (oneActor) ID(kv.Actor) uint32               { return 0 }
func (oneActor) Actor(id uint32) (kv.Actor, bool) { return kv.Actor{Node: 1, Boot: 1}, id == 0 }

func version(seq uint64, value string) kv.Version {
	return kv.Version{Dot: kv.Dot{Actor: kv.Actor{Node: 1, Boot: 1}, Seq: seq}, HLC: 7, Value: []byte(value)}
}

func TestTierShowsTheValueOfAPlainObject(t *testing.T) {
	t.Parallel()
	gone, brief, two := version(2, ""), version(3, "soon gone"), version(4, "other")
	gone.Flags = kv.Tombstone
	brief.ExpiresMS = 1234
	ahead := kv.VV{{Actor: kv.Actor{Node: 1, Boot: 1}, Seq: 9}}
	for name, tc := range map[string]struct {
		entry  cache.Entry
		inline bool
		value  string
		shown  cache.Shown
		ok     bool
	}{
		"plain":            {cache.Entry{Object: kv.Object{Versions: []kv.Version{version(1, "value")}}}, true, "value", cache.Shown{Found: true}, true},
		"empty":            {cache.Entry{Object: kv.Object{Versions: []kv.Version{version(1, "")}}}, true, "", cache.Shown{Found: true}, true},
		"expires":          {cache.Entry{Object: kv.Object{Versions: []kv.Version{brief}}}, true, "soon gone", cache.Shown{Found: true, ExpiresMS: 1234}, true},
		"tombstone":        {cache.Entry{Object: kv.Object{Versions: []kv.Version{gone}}}, true, "", cache.Shown{}, true},
		"siblings":         {cache.Entry{Object: kv.Object{Versions: []kv.Version{version(1, "value"), two}}}, true, "", cache.Shown{}, false},
		"explicit context": {cache.Entry{Object: kv.Object{Versions: []kv.Version{version(1, "value")}, Ctx: ahead}}, true, "", cache.Shown{}, false},
		"session":          {cache.Entry{Object: kv.Object{Versions: []kv.Version{version(1, "value")}}, Session: 5}, true, "", cache.Shown{}, false},
		"without values":   {cache.Entry{Object: kv.Object{Versions: []kv.Version{version(1, "value")}}}, false, "", cache.Shown{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tier, err := cache.NewTier(1 << 20)
			require.NoError(t, err)
			require.True(t, tier.Put(3, 42, []byte("k"), cache.AppendEntry(nil, oneActor{}, tc.entry, tc.inline)))
			got, shown, ok := tier.Value([]byte("before:"), 3, 42, []byte("k"))
			require.Equal(t, tc.ok, ok)
			require.Equal(t, tc.shown, shown)
			require.Equal(t, "before:"+tc.value, string(got))
		})
	}
}

func TestTierShowsNothingOfAnotherKey(t *testing.T) {
	t.Parallel()
	tier, err := cache.NewTier(1 << 20)
	require.NoError(t, err)
	entry := cache.Entry{Object: kv.Object{Versions: []kv.Version{version(1, "value")}}}
	tier.Put(3, 42, []byte("k"), cache.AppendEntry(nil, oneActor{}, entry, true))
	got, _, ok := tier.Value([]byte("before"), 3, 42, []byte("same hash"))
	require.False(t, ok)
	require.Equal(t, "before", string(got))
}
