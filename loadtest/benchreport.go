package main

import (
	"fmt"
	"io"
	"strings"
)

// BenchReport is the answer of `loadtest bench`.
type BenchReport struct {
	Vs         string     `json:"vs"`
	Pairs      int        `json:"pairs"`
	Keys       int        `json:"keys"`
	ValueBytes int        `json:"value_bytes"`
	Clients    int        `json:"clients"`
	Pipeline   int        `json:"pipeline"`
	Rows       []BenchRow `json:"rows"`
}

// BenchRow is one operation under one durability. Rates are commands a second.
type BenchRow struct {
	Op         string    `json:"op"`
	Durability string    `json:"durability"`
	Fsync      string    `json:"appendfsync"` // of the other server
	Edged      float64   `json:"edged_per_s"` // medians
	Other      float64   `json:"other_per_s"`
	Ratio      float64   `json:"ratio"` // the median of the pairs' ratios
	Ratios     []float64 `json:"ratios"`
	EdgedCPU   float64   `json:"edged_cpu_us"` // microseconds of processor a command, medians
	OtherCPU   float64   `json:"other_cpu_us"`

	rates, cpus turns // of edged and of the other
}

// benchRun is one run of one server.
type benchRun struct {
	rate float64 // commands a second
	cpu  float64 // microseconds of processor a command
}

func (r *BenchRow) add(edged bool, run benchRun) {
	if edged {
		r.rates.a, r.cpus.a = append(r.rates.a, run.rate), append(r.cpus.a, run.cpu)
	} else {
		r.rates.b, r.cpus.b = append(r.rates.b, run.rate), append(r.cpus.b, run.cpu)
	}
}

// settle takes the medians. Each run is held against the one beside it.
func (r *BenchRow) settle() {
	r.Ratios = r.rates.ratios()
	r.Edged, r.Other, r.Ratio = r.rates.medians()
	r.EdgedCPU, r.OtherCPU, _ = r.cpus.medians()
}

// ratio is that of an operation's first row.
func (r *BenchReport) ratio(op string) float64 {
	for i := range r.Rows {
		if r.Rows[i].Op == op {
			return r.Rows[i].Ratio
		}
	}
	return 0
}

func (r *BenchReport) writeTable(w io.Writer, p painter) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", p.bold(fmt.Sprintf("One node beside %s: %d keys, %d B values, %d clients, -P %d, median of %d interleaved pairs",
		r.Vs, r.Keys, r.ValueBytes, r.Clients, r.Pipeline, r.Pairs)))
	fmt.Fprintf(&b, "  %-4s %-10s %-12s %12s %12s %7s   %-13s %11s %11s\n", "", "durability", "appendfsync", "edged /s", r.Vs+" /s", "ratio",
		"least to most", "edged us", r.Vs+" us")
	for i := range r.Rows {
		row := &r.Rows[i]
		fmt.Fprintf(&b, "  %-4s %-10s %-12s %12.0f %12.0f %7.2f   %-13s %11.2f %11.2f\n",
			row.Op, row.Durability, row.Fsync, row.Edged, row.Other, row.Ratio, leastToMost(row.Ratios), row.EdgedCPU, row.OtherCPU)
	}
	b.WriteString("  us: processor time of the server for one command, on however many processors\n")
	_, err := io.WriteString(w, b.String())
	return err
}
