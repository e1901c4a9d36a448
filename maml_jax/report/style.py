"""The style sheet of the page: for light and dark screens, telephones and paper."""

STYLE = """
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif;
  --good: #1a7f4b; --bad: #c0392b; --quiet: #808080; --box: #8882; }
@media (prefers-color-scheme: dark) { :root { --good: #4cc38a; --bad: #ff7b6b; --quiet: #a0a0a0; } }
body { margin: 1.5rem auto; max-width: 64rem; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--box); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; } .note { opacity: .75; font-size: .9rem; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 600; }
th, td { padding: .2rem 1rem .2rem 0; vertical-align: top; overflow-wrap: anywhere; }
tbody tr { border-top: 1px solid var(--box); } td.number { font-variant-numeric: tabular-nums;
  white-space: nowrap; }
code, pre { font: .85rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
pre span { display: inline-block; }
pre { background: var(--box); padding: .6rem; margin: .2rem 0 .8rem; white-space: pre-wrap; }
figure { margin: 0; } .charts { display: flex; flex-wrap: wrap; gap: 1.5rem; }
.chart { flex: 0 1 30rem; min-width: min(20rem, 100%); }
.chart > svg { width: 100%; display: block; overflow: visible; }
.chart figcaption { font-size: .9rem; font-weight: 600; }
svg text { fill: currentColor; font-size: 11px; opacity: .8; }
svg path { fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linejoin: round; }
svg .grid { stroke: var(--box); stroke-width: 1; } svg .bar { stroke-width: 1; }
.line.good { color: var(--good); } .line.bad { color: var(--bad); }
.line.quiet { color: var(--quiet); } .line circle { fill: currentColor; }
.dashed path { stroke-dasharray: 4 3; }
.line.dashed circle { fill: none; stroke: currentColor; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 1rem; margin: .2rem 0;
  padding: 0; font-size: .85rem; }
.swatch { width: 24px; height: 10px; margin-right: .3rem; }
.classes { display: grid; gap: .6rem 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); }
.class { break-inside: avoid; border-top: 1px solid var(--box); padding-top: .3rem; }
.class h4 { font-size: .85rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; gap: .35rem .6rem; align-items: flex-start; }
.row > .kind { flex: 0 0 100%; font-size: .75rem; opacity: .75; }
.query { font-size: .75rem; line-height: 1.3; } .query span { display: block; }
img, svg.example { width: 56px; height: 56px; background: var(--box); display: block;
  object-fit: contain; } img { image-rendering: pixelated; }
.right { color: var(--good); } .wrong { color: var(--bad); font-weight: 600; }
ol.pairs { list-style: none; padding: 0; margin: 0; display: grid; gap: .8rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
.pairs li { display: flex; gap: .6rem; align-items: flex-start; break-inside: avoid; }
.pairs li > div { flex: 1; font-size: .85rem; min-width: 0; overflow-wrap: anywhere; }
dl.all { columns: 17rem; font-size: .85rem; margin: 0; }
dl.all div { break-inside: avoid; display: flex; gap: .5rem; }
dl.all dt { opacity: .75; } dl.all dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
@media print {
  :root { color-scheme: light; font-size: 11pt; --good: #1a7f4b; --bad: #c0392b; --quiet: #666; }
  body { margin: 0; max-width: none; padding: 0; }
  h2, h3, h4 { break-after: avoid; } .chart, tr, pre { break-inside: avoid; }
  img, svg, pre { print-color-adjust: exact; }
}
"""
