package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

func TestTicksAreRoundAndFew(t *testing.T) {
	t.Parallel()
	require.Equal(t, []float64{0, 200, 400, 600}, ticks(0, 750))
	require.Equal(t, []float64{0, 50, 100, 150, 200, 250}, ticks(0, 273))
	require.Equal(t, []float64{1, 2, 3, 4, 5}, ticks(1, 5))
	for _, span := range []float64{0.003, 1, 7, 7.01, 99, 1234567} {
		got := ticks(0, span)
		require.LessOrEqual(t, len(got), maxTicks+1, span)
		require.GreaterOrEqual(t, len(got), 3, span)
	}
}

func TestNumbersOfAnAxis(t *testing.T) {
	t.Parallel()
	require.Equal(t, "0.01", numberText(0.01))
	require.Equal(t, "1500", numberText(1500))
	require.Equal(t, "999 B", sizeText(999))
	require.Equal(t, "162.5 kB", sizeText(162_543))
	require.Equal(t, "2.5 MB", sizeText(2.5e6))
}

func TestAxesHoldWhatIsDrawn(t *testing.T) {
	t.Parallel()
	p := &plot{series: []series{{points: []point{{0, 3}, {40, 12}}}}, rules: []rule{{"a bound", 100}}}
	p.fit()
	require.InDelta(t, 40, p.xMax, 1e-9)
	require.InDelta(t, 106, p.yMax, 1e-9)
	require.InDelta(t, plotHeight-plotBottom, p.py(0), 1e-9)
	require.InDelta(t, plotWidth-plotRight, p.px(40), 1e-9)
	log := &plot{logY: true, yMin: 1, yMax: 1, series: []series{{points: []point{{0, 0.2}, {1, 30}, {2, 0}}}}}
	log.fit()
	require.Equal(t, []float64{0.1, 1, 10, 100}, log.yTicks())
	require.InDelta(t, plotHeight-plotBottom, log.py(0), 1e-9, "none is at the bottom, not below it")
	require.InDelta(t, plotTop, log.py(100), 1e-9)
	require.NotContains(t, string((&plot{}).svg("nothing at all")), "NaN")
}

func TestPlotIsWellFormedAndEscaped(t *testing.T) {
	t.Parallel()
	p := &plot{
		xName: "a < b", yName: `"y" & z`, bands: []band{{"<during>", 0, 1}}, rules: []rule{{"1 < 2", 3}, {"other", 4}},
		series: []series{{name: "<i>", draw: drawDots, colour: 1, points: []point{{1, 2}}}, {name: "line", draw: drawStep, colour: 2, points: []point{{1, 2}, {2, 3}}}},
	}
	text := string(p.svg(`a "title" <script>`))
	require.NotContains(t, text, "<script>")
	require.NotContains(t, text, "<i>")
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	require.Contains(t, text, "H", "a step is level, then upright")
}

func TestTimelineForgetsWhatIsNotSoAnyMore(t *testing.T) {
	t.Parallel()
	line := &timeline{live: map[uint32]float64{}, verified: map[uint32]float64{}}
	live := func(id uint32, verified bool) admin.Partition {
		return admin.Partition{ID: id, Owned: true, State: admin.StateLive, Verified: verified}
	}
	cold := admin.Partition{ID: 2, Owned: true, State: admin.StateCold}
	line.look(10, []admin.Partition{live(1, false), live(2, true), {ID: 3, State: admin.StateLive}, live(1<<32-1, false)}, 5)
	line.look(20, []admin.Partition{live(1, true), cold}, 7)
	line.look(30, []admin.Partition{live(1, true), live(2, false)}, 9)
	require.Equal(t, []sample{{10, 3, 1, 5}, {20, 1, 1, 7}, {30, 2, 1, 9}}, line.samples)
	require.Equal(t, []point{{10, 1}, {30, 2}}, partitionPoints(line.live))
	require.Equal(t, []point{{20, 1}}, partitionPoints(line.verified))
	require.Len(t, line.upTo(10), 2)
	require.Len(t, line.upTo(30), 3)

	before := admin.Rejoin{StartedMS: 1, SyncBytesIn: 100, SyncBytesOut: 10}
	require.InDelta(t, 50, sessionBytes(before, admin.Rejoin{StartedMS: 1, SyncBytesIn: 140, SyncBytesOut: 20}), 1e-9)
	require.InDelta(t, 160, sessionBytes(before, admin.Rejoin{StartedMS: 2, SyncBytesIn: 140, SyncBytesOut: 20}), 1e-9, "another process")
}

func TestLatencyIsToldByPhase(t *testing.T) {
	t.Parallel()
	begun := time.Unix(100, 0)
	var seen []latency
	for i := range 100 {
		seen = append(seen, latency{at: begun.Add(time.Duration(i) * 10 * time.Millisecond), ms: float64(i)})
	}
	var c clientPhases
	c.split(seen, begun.Add(300*time.Millisecond))
	require.Len(t, c.during, 31, "the moment itself among them")
	require.Len(t, c.after, 69)
	require.InDelta(t, 99, quantile(seen, 0.99), 1e-9)
	require.InDelta(t, 50, quantile(seen, 0.5), 1e-9)
	require.Zero(t, quantile(nil, 0.5))
	medians, slowest, end := binned(seen, 2)
	require.Len(t, slowest, latencyBins)
	require.Len(t, medians, latencyBins)
	require.InDelta(t, 2.99, end, 1e-9)
	require.InDelta(t, 99, slowest[latencyBins-1].y, 1e-9)
	_, _, end = binned(nil, 2)
	require.InDelta(t, 2, end, 1e-9)
	one, _, _ := binned(seen[:1], 0)
	require.Len(t, one, 1)
}

// However slow the looks are, what has come by the end of a return is on its page.
func TestTimelineLooksOnceMoreAtTheEnd(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == admin.PathPartitions {
			_ = json.NewEncoder(w).Encode(admin.Partitions{Partitions: []admin.Partition{{ID: 7, Owned: true, State: admin.StateLive, Verified: true}}})
			return
		}
		_ = json.NewEncoder(w).Encode(admin.Rejoin{})
	}))
	defer server.Close()
	client := admin.NewClient(server.URL, "")
	defer client.Close()
	over, end := context.WithCancel(t.Context())
	end()
	line := watchTimeline(over, door{name: "n1", admin: client}, time.Now(), admin.Rejoin{})
	require.Len(t, line.samples, 1)
	require.Contains(t, line.verified, uint32(7))
}
