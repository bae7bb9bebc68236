package main

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// The box of a plot in pixels, before the page scales it.
const (
	plotWidth  = 880
	plotHeight = 300
	plotLeft   = 72 // room for the numbers of the y axis
	plotRight  = 16
	plotTop    = 34 // room for the legend
	plotBottom = 46 // room for the numbers and the name of the x axis
	// maxTicks is how many numbers an axis shows at the most.
	maxTicks = 7
)

// point is one of a series, in the units of the axes.
type point struct{ x, y float64 }

// The ways to draw a series.
const (
	drawLine = "line"
	drawStep = "step" // holds its value until the next point
	drawDots = "dots"
)

// series is one set of points of a plot. Its colour is that of its number, 1 to 4.
type series struct {
	name   string
	draw   string
	colour int
	points []point
}

// rule is a level that is not to be missed, across a plot.
type rule struct {
	name string
	y    float64
}

// band is a part of the x axis with a name.
type band struct {
	name     string
	from, to float64
}

// plot is one set of axes.
type plot struct {
	xName, yName string
	xMin, xMax   float64
	yMin, yMax   float64
	logY         bool
	series       []series
	rules        []rule
	bands        []band
	yText        func(float64) string // of a number of the y axis
}

// fit widens the axes to what is drawn, with some room above.
func (p *plot) fit() {
	for _, s := range p.series {
		for _, at := range s.points {
			p.xMin, p.xMax = min(p.xMin, at.x), max(p.xMax, at.x)
			p.yMax = max(p.yMax, at.y)
			if p.logY && at.y > 0 {
				p.yMin = min(p.yMin, at.y)
			}
		}
	}
	for _, r := range p.rules {
		p.yMax = max(p.yMax, r.y)
	}
	if p.xMax <= p.xMin {
		p.xMax = p.xMin + 1
	}
	switch {
	case p.logY:
		p.yMin = math.Pow(10, math.Floor(math.Log10(max(p.yMin, 1e-3))))
		p.yMax = math.Pow(10, math.Ceil(math.Log10(max(p.yMax, p.yMin*10))))
	case p.yMax <= p.yMin:
		p.yMax = p.yMin + 1
	default:
		p.yMax += (p.yMax - p.yMin) * 0.06
	}
}

func (p *plot) px(x float64) float64 {
	return plotLeft + (x-p.xMin)/(p.xMax-p.xMin)*(plotWidth-plotLeft-plotRight)
}

func (p *plot) py(y float64) float64 {
	part := (y - p.yMin) / (p.yMax - p.yMin)
	if p.logY {
		part = math.Log10(max(y, p.yMin)/p.yMin) / math.Log10(p.yMax/p.yMin)
	}
	return plotHeight - plotBottom - part*(plotHeight-plotTop-plotBottom)
}

// svg draws the plot.
func (p *plot) svg(title string) template.HTML {
	p.fit()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, plotWidth, plotHeight, html.EscapeString(title))
	p.drawBands(&b)
	p.drawAxes(&b)
	for _, s := range p.series {
		p.drawSeries(&b, s)
	}
	p.drawRules(&b)
	p.drawLegend(&b)
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // every text in it is escaped
}

func (p *plot) drawBands(b *strings.Builder) {
	for i, band := range p.bands {
		from, to := p.px(band.from), p.px(band.to)
		fmt.Fprintf(b, `<rect class="band band%d" x="%.1f" y="%d" width="%.1f" height="%d"/>`, i%2, from, plotTop, max(0, to-from), plotHeight-plotTop-plotBottom)
		fmt.Fprintf(b, `<text class="label" x="%.1f" y="%d" text-anchor="middle">%s</text>`, (from+to)/2, plotTop+14, html.EscapeString(band.name))
	}
}

func (p *plot) drawAxes(b *strings.Builder) {
	bottom := plotHeight - plotBottom
	for _, y := range p.yTicks() {
		at := p.py(y)
		fmt.Fprintf(b, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`, plotLeft, at, plotWidth-plotRight, at)
		fmt.Fprintf(b, `<text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`, plotLeft-8, at+4, p.yLabel(y))
	}
	for _, x := range ticks(p.xMin, p.xMax) {
		at := p.px(x)
		fmt.Fprintf(b, `<line class="axis" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, at, bottom, at, bottom+4)
		fmt.Fprintf(b, `<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, at, bottom+17, numberText(x))
	}
	fmt.Fprintf(b, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>`, plotLeft, bottom, plotWidth-plotRight, bottom)
	fmt.Fprintf(b, `<text class="label" x="%d" y="%d" text-anchor="middle">%s</text>`, (plotLeft+plotWidth-plotRight)/2, plotHeight-8, html.EscapeString(p.xName))
	fmt.Fprintf(b, `<text class="label" transform="translate(14 %d) rotate(-90)" text-anchor="middle">%s</text>`, (plotTop+bottom)/2, html.EscapeString(p.yName))
}

func (p *plot) yLabel(y float64) string {
	if p.yText != nil {
		return html.EscapeString(p.yText(y))
	}
	return numberText(y)
}

func (p *plot) drawSeries(b *strings.Builder, s series) {
	if s.draw == drawDots {
		for _, at := range s.points {
			fmt.Fprintf(b, `<circle class="c%d" cx="%.1f" cy="%.1f" r="2.4"><title>%s: %s, %s</title></circle>`,
				s.colour, p.px(at.x), p.py(at.y), html.EscapeString(s.name), numberText(at.x), p.yLabel(at.y))
		}
		return
	}
	var path strings.Builder
	for i, at := range s.points {
		x, y := p.px(at.x), p.py(at.y)
		switch {
		case i == 0:
			fmt.Fprintf(&path, "M%.1f %.1f", x, y)
		case s.draw == drawStep:
			fmt.Fprintf(&path, "H%.1fV%.1f", x, y)
		default:
			fmt.Fprintf(&path, "L%.1f %.1f", x, y)
		}
	}
	fmt.Fprintf(b, `<path class="s%d" d="%s"/>`, s.colour, path.String())
}

func (p *plot) drawRules(b *strings.Builder) {
	for i, r := range p.rules {
		at := p.py(r.y)
		fmt.Fprintf(b, `<line class="rule" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`, plotLeft, at, plotWidth-plotRight, at)
		// Names of rules that lie close together stand on either side.
		below := at + 14
		if i%2 == 1 {
			below = at - 5
		}
		fmt.Fprintf(b, `<text class="rulename" x="%d" y="%.1f" text-anchor="end">%s</text>`, plotWidth-plotRight-4, below, html.EscapeString(r.name))
	}
}

func (p *plot) drawLegend(b *strings.Builder) {
	const glyph = 7.2 // width of a letter, about
	x := float64(plotLeft)
	for _, s := range p.series {
		fmt.Fprintf(b, `<rect class="c%d" x="%.1f" y="11" width="12" height="4" rx="2"/>`, s.colour, x)
		fmt.Fprintf(b, `<text class="label" x="%.1f" y="18">%s</text>`, x+18, html.EscapeString(s.name))
		x += 18 + glyph*float64(len(s.name)) + 18
	}
}

// yTicks are the numbers of the y axis: of a logarithmic one, the powers of ten.
func (p *plot) yTicks() []float64 {
	if !p.logY {
		return ticks(p.yMin, p.yMax)
	}
	var out []float64
	for y := p.yMin; y <= p.yMax*1.001; y *= 10 {
		out = append(out, y)
	}
	return out
}

// ticks are round numbers from one end of an axis to the other.
func ticks(from, to float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((to-from)/maxTicks)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if (to-from)/(step*factor) <= maxTicks {
			step *= factor
			break
		}
	}
	var out []float64
	for n := math.Ceil(from/step - 1e-9); n*step <= to+step*1e-9; n++ {
		out = append(out, n*step)
	}
	return out
}

// numberText is a number without the noise of its binary form.
func numberText(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", v+0), "0"), ".")
}

// sizeText is a number of bytes with four digits.
func sizeText(v float64) string {
	unit := "B"
	for _, next := range []string{"kB", "MB", "GB"} {
		if v < 1e3 {
			break
		}
		v, unit = v/1e3, next
	}
	return strconv.FormatFloat(v, 'g', 4, 64) + " " + unit
}
