package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

func TestScrubShowsWhatIsDamaged(t *testing.T) {
	t.Parallel()
	server := fakeNode(t, map[string]any{
		"POST /v1/scrub": admin.Scrubbed{Objects: 9, Bytes: 1 << 20, Damaged: []admin.DamagedCopy{
			{Partition: 7, Keys: [][]byte{[]byte("a b"), []byte("\xff")}}, {Partition: 8},
		}},
		"POST /v1/scrub?partition=3": admin.Scrubbed{Objects: 2},
		"GET /v1/rejoin":             admin.Rejoin{Healed: []admin.HealedCopy{{Partition: 7, Reason: "healed by the owners' vote: 1 versions restored"}}},
	})
	code, out, talk := at(t, nil, "scrub", "--admin", server.URL)
	require.Zero(t, code, talk)
	require.Regexp(t, `OBJECTS +9\n`, out)
	require.Regexp(t, `READ +1MiB\n`, out)
	require.Regexp(t, `DAMAGED COPIES +2\n`, out)
	require.Regexp(t, `PARTITION 7 +"a b", "\\xff"\n`, out)
	require.Regexp(t, `PARTITION 8 +-\n`, out)
	code, out, talk = at(t, nil, "scrub", "--partition", "3", "--admin", server.URL)
	require.Zero(t, code, talk)
	require.Regexp(t, `DAMAGED COPIES +0\n`, out)
	code, _, _ = at(t, nil, "scrub", "--partition=-2")
	require.Equal(t, exitUsage, code)
	code, out, talk = at(t, nil, "rejoin", "status", "--admin", server.URL)
	require.Zero(t, code, talk)
	require.Regexp(t, `HEALED +partition 7: healed by the owners' vote: 1 versions restored\n`, out)
}
