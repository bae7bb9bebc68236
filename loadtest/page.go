package main

import (
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"
)

// page is the report as one HTML file that needs nothing else.
type page struct {
	Title   string
	Sub     string
	Tiles   []tile
	Figures []figure
	Table   string
}

// tile is one figure that matters. Bad paints it red.
type tile struct {
	Name, Value, Note string
	Bad               bool
}

// figure is a plot and what to see in it.
type figure struct {
	Title, Text string
	SVG         template.HTML
}

// writePage writes the page of a run.
func (r *rejoinRun) writePage(path string) error {
	var table strings.Builder
	if err := r.report.writeTable(&table, painter{}); err != nil {
		return err
	}
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	file, err := createPage(path)
	if err != nil {
		return err
	}
	if err := t.Execute(file, r.page(strings.TrimSpace(table.String()))); err != nil {
		file.Close() // the first error says more
		return fmt.Errorf("write page: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// createPage makes the page's file, empty, and the directories above it: that it
// cannot be written is better known before a run than after it.
func createPage(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a report is for others to read
		return nil, fmt.Errorf("write page: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("write page: %w", err)
	}
	return file, nil
}

func (r *rejoinRun) page(table string) page {
	s := &r.report
	network := "loopback"
	if s.Net != "" {
		network = s.Net
	}
	out := page{
		Title: fmt.Sprintf("One of %d nodes comes back", s.Nodes),
		Sub: fmt.Sprintf("%d keys of %d B · %d changed, %d deleted, %d conflicts · outage by %s, disk %s, %.1f s away · network: %s · durability %s, seed %d",
			s.Keys, s.ValueBytes, s.Changed, s.Deleted, s.Conflicts, s.Outage, s.Disk, s.DownMS/1000, network, s.Durability, s.Seed),
		Tiles: r.tiles(), Table: table,
	}
	if r.timeline != nil && len(r.timeline.samples) > 0 {
		out.Figures = append(out.Figures, r.countFigure(), r.partitionFigure(), r.bytesFigure())
	}
	out.Figures = append(out.Figures, r.latencyFigure())
	if s.Waits != nil && s.Waits.Control != nil {
		out.Figures = append(out.Figures, s.Waits.Control.figure())
	}
	if s.Versus != nil {
		out.Figures = append(out.Figures, s.Versus.figure())
	}
	if s.Scale != nil {
		out.Figures = append(out.Figures, s.Scale.figure())
	}
	if s.Repair != nil && s.Repair.Effect != nil {
		out.Figures = append(out.Figures, s.Repair.Effect.figure(s.Repair.Policy))
	}
	return out
}

func (r *rejoinRun) tiles() []tile {
	s := &r.report
	wrong := s.Lost + s.StaleReads + s.NotFound + s.Resurrected + s.Diverged
	verdict := tile{Name: "correctness", Value: "all right", Note: "every key on every node, by their own copies"}
	if !s.ok() {
		verdict.Value, verdict.Bad = fmt.Sprintf("%d wrong", wrong), true
		verdict.Note = fmt.Sprintf("%d lost, %d stale, %d not found, %d resurrected, %d diverged", s.Lost, s.StaleReads, s.NotFound, s.Resurrected, s.Diverged)
	}
	return []tile{
		{Name: "caught up", Value: fmt.Sprintf("%.0f ms", s.CaughtUpMS), Note: "all partitions live, since the return"},
		{Name: "first right answer", Value: fmt.Sprintf("%.0f ms", s.FirstAnswerMS), Note: "of a changed key, through the node"},
		{Name: "sync", Value: sizeText(float64(s.SyncBytes)), Note: fmt.Sprintf("%.3f times the least possible", s.Ratio)},
		{Name: "clients' p99", Value: fmt.Sprintf("%.2f ms", s.DuringP99MS), Note: fmt.Sprintf("during; before %.2f, after %.2f ms", s.BaselineP99MS, s.AfterP99MS)},
		verdict,
	}
}

// shown are the samples until a while after the node was verified: nothing comes
// then that belongs to its return.
func (r *rejoinRun) shown() []sample {
	const more = 1.2
	return r.timeline.upTo(r.report.VerifiedMS * more)
}

func (r *rejoinRun) countFigure() figure {
	live, verified := series{name: "live", draw: drawStep, colour: 1}, series{name: "verified", draw: drawStep, colour: 2}
	for _, s := range r.shown() {
		live.points = append(live.points, point{s.ms, float64(s.live)})
		verified.points = append(verified.points, point{s.ms, float64(s.verified)})
	}
	p := &plot{xName: "milliseconds since the return", yName: "partitions", series: []series{live, verified}}
	return figure{"Partitions that serve", "A partition is live when the node holds all that its other owners had, and verified when their digests are equal.", p.svg("partitions live and verified over time")}
}

func (r *rejoinRun) partitionFigure() figure {
	p := &plot{xName: "milliseconds since the return", yName: "partition", series: []series{
		{name: "live", draw: drawDots, colour: 1, points: partitionPoints(r.timeline.live)},
		{name: "verified", draw: drawDots, colour: 2, points: partitionPoints(r.timeline.verified)},
	}}
	return figure{"Each partition's recovery", fmt.Sprintf("When each partition came back, as the node said every %d ms. Where both moments are one, the second dot hides the first.", timelineEvery.Milliseconds()), p.svg("moment of recovery by partition")}
}

func (r *rejoinRun) bytesFigure() figure {
	got := series{name: "session bytes, both directions", draw: drawStep, colour: 1}
	for _, s := range r.shown() {
		got.points = append(got.points, point{s.ms, s.syncBytes})
	}
	p := &plot{xName: "milliseconds since the return", yName: "bytes", series: []series{got}, yText: sizeText}
	if need := float64(r.report.NeededBytes); need > 0 {
		p.rules = []rule{{"the least: " + sizeText(need), need}, {"1.10 times that", need * 1.1}}
	}
	return figure{"Bytes against the bound", "The least is one zstd frame, at its best level, over the versions that the node lacked.", p.svg("session bytes over time")}
}

func (r *rejoinRun) latencyFigure() figure {
	median, slowest := series{name: "median", draw: drawLine, colour: 1}, series{name: "slowest", draw: drawLine, colour: 3}
	p := &plot{xName: "seconds of measurement; the outage between before and during is left out", yName: "milliseconds", logY: true, yMin: 1, yMax: 1}
	at := 0.0
	for _, phase := range []struct {
		name string
		seen []latency
	}{{"before", r.clients.before}, {"during", r.clients.during}, {"after", r.clients.after}} {
		m, s, end := binned(phase.seen, at)
		median.points, slowest.points = append(median.points, m...), append(slowest.points, s...)
		if end > at {
			p.bands = append(p.bands, band{phase.name, at, end})
		}
		at = end
	}
	p.series = []series{median, slowest}
	return figure{"Clients of the other nodes", "What clients of the nodes that stayed waited for an answer, before the outage, until the node was caught up, and after.", p.svg("client latency before, during and after")}
}

func (v *Versus) figure() figure {
	return figure{
		fmt.Sprintf("Beside %s %s", v.Server, v.Version),
		fmt.Sprintf("Time until every change was there, in turn: %s. A full resync took %.0f ms.", v.timeText(), v.FullMS),
		v.turns().svg(v.Server+", partial resync", "edged", "time of each return, in turn"),
	}
}
