package main

// pageTemplate is the page of a run: no script, no font and no picture from
// elsewhere, so that it can be mailed and kept.
const pageTemplate = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Title}} · edged loadtest</title>
<style>
:root {
  --page: #f6f7f9; --card: #ffffff; --text: #1a2230; --quiet: #5b6678; --line: #e3e7ee; --axis: #9aa5b5;
  --c1: #2563eb; --c2: #0f9d6b; --c3: #d9730d; --c4: #9333ea; --bad: #c62828; --rule: #b3261e; --band: #eef2f8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141b; --card: #181e28; --text: #e6eaf2; --quiet: #97a3b6; --line: #2a3340; --axis: #556173;
    --c1: #7aa7ff; --c2: #4fd1a1; --c3: #ffb066; --c4: #c99bff; --bad: #ff8a80; --rule: #ff8a80; --band: #1f2733;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 6px; }
h2 { font-size: 17px; margin: 0; }
p { margin: 4px 0 12px; color: var(--quiet); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 20px 0; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 14px; }
.tile b { display: block; font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile.bad b { color: var(--bad); }
.tile span, .tile small { color: var(--quiet); font-size: 13px; display: block; line-height: 1.35; }
section { padding: 16px 18px 10px; margin: 16px 0; }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
svg text { fill: var(--quiet); }
svg .tick { font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); }
svg .axis { stroke: var(--axis); }
svg .band0 { fill: transparent; }
svg .band1 { fill: var(--band); }
svg .rule { stroke: var(--rule); stroke-dasharray: 5 4; }
svg .rulename { fill: var(--rule); }
svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .s1 { stroke: var(--c1); } svg .s2 { stroke: var(--c2); } svg .s3 { stroke: var(--c3); } svg .s4 { stroke: var(--c4); }
svg .c1 { fill: var(--c1); } svg .c2 { fill: var(--c2); } svg .c3 { fill: var(--c3); } svg .c4 { fill: var(--c4); }
details { margin: 16px 0; }
summary { cursor: pointer; color: var(--quiet); }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; font-size: 13px; }
</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
<p>{{.Sub}}</p>
<div class="tiles">
{{range .Tiles}}<div class="tile{{if .Bad}} bad{{end}}"><span>{{.Name}}</span><b>{{.Value}}</b><small>{{.Note}}</small></div>
{{end}}</div>
{{range .Figures}}<section>
<h2>{{.Title}}</h2>
<p>{{.Text}}</p>
{{.SVG}}
</section>
{{end}}<details open>
<summary>All figures</summary>
<pre>{{.Table}}</pre>
</details>
</main>
</body>
</html>
`
