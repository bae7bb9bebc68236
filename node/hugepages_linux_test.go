package node

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheHeapIsBackedByHugePages(t *testing.T) {
	t.Parallel()
	err := hugePages() // once, as it sets the collector's percentage and puts it back
	if _, none := os.Stat("/sys/kernel/mm/transparent_hugepage"); none != nil {
		require.Error(t, err, "a kernel without them says so")
		return
	}
	require.NoError(t, err)
	maps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	marked := 0
	for line := range strings.Lines(string(maps)) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && strings.Contains(strings.TrimSpace(flags)+" ", "hg ") {
			marked++
		}
	}
	require.Positive(t, marked, "a range of this process is marked for huge pages")
}
