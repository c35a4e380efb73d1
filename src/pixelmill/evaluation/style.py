"""The style sheet of the report: the page's own colors, light and dark, on screens from 360 pixels and on paper.

Colors keep WCAG 2.2 AA: text 4.5:1 on every surface it stands on, lines and bars 3:1.
"""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark;--page:#f6f7f8;--surface:#fff;--line:#d3d9de;--grid:#e4e8eb;--edge:#7b8790;--text:#182026;
--soft:#52606b;--accent:#0b5f58;--wash:#dff3f0;--good:#1a7339;--bad:#b3261e;--warn:#8a5300;--warn-wash:#fdf0d5;
--s0:#0f766e;--s1:#1d5fb8;--s2:#b45309;--s3:#7c3aed;--focus:#1259c3}
@media (prefers-color-scheme:dark){:root{--page:#101418;--surface:#171d22;--line:#2f3941;--grid:#28313a;--edge:#7d8b96;
--text:#e8edf0;--soft:#a7b3bc;--accent:#6fdacd;--wash:#123532;--good:#62d28b;--bad:#ff8f86;--warn:#f0b75a;
--warn-wash:#3b2a0b;--s0:#43c7b8;--s1:#7db4ff;--s2:#f0a35a;--s3:#c4a7ff;--focus:#8ab8ff}}
*{box-sizing:border-box}
html{background:var(--page);color:var(--text);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
"Liberation Sans",sans-serif;-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1180px;padding:28px 20px 60px}
h1,h2,h3,p,dl,dd,ul,figure,pre{margin:0}
h1{overflow-wrap:anywhere;font-size:1.75rem;line-height:1.2;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:1.25rem;margin:0 0 4px;line-height:1.3}
h3{font-size:1rem;margin:22px 0 10px}
header .kind{color:var(--accent);font-weight:600;font-size:.8rem;letter-spacing:.08em;text-transform:uppercase}
header p{color:var(--soft);margin-top:8px;max-width:80ch}
code,pre{font-family:ui-monospace,SFMono-Regular,"Cascadia Mono","DejaVu Sans Mono",monospace;font-size:.9em}
pre{background:var(--surface);border:1px solid var(--line);border-radius:8px;padding:12px 14px;white-space:pre-wrap;
overflow-wrap:anywhere;margin-top:10px}
section{margin-top:44px}
section>p{color:var(--soft);max-width:82ch;margin:8px 0 12px}
.partial{border:1px solid var(--warn);background:var(--warn-wash);border-radius:8px;padding:10px 14px;margin-top:16px}
header .partial{color:var(--text)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,165px),1fr));gap:12px;margin-top:24px}
.tiles>div{background:var(--surface);border:1px solid var(--line);border-radius:10px;padding:12px 14px;display:flex;
flex-direction:column}
.tiles dt{color:var(--soft);font-size:.85rem}
.tiles dd{font-size:1.6rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
.tiles small{display:block;font-size:.78rem;font-weight:400;color:var(--soft);line-height:1.35;margin-top:2px}
.findings{padding-left:20px;margin:14px 0 0;max-width:84ch}
.findings li{margin:4px 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr));gap:14px}
figure{background:var(--surface);border:1px solid var(--line);border-radius:10px;padding:12px 12px 8px;min-width:0}
figcaption{font-weight:600;font-size:.92rem;margin-bottom:6px}
figcaption small,.note{color:var(--soft);font-weight:400;font-size:.82rem}
.note{margin:6px 0 0;max-width:90ch}
.chart{display:block;width:100%;height:auto;overflow:visible}
.chart text{font-size:10.5px;fill:var(--soft);font-variant-numeric:tabular-nums}
.chart .value{fill:var(--text)}
.chart.wide{max-width:680px}
.charts.small{grid-template-columns:repeat(auto-fit,minmax(min(100%,235px),1fr))}
.gridline{stroke:var(--grid);fill:none}.base{stroke:var(--edge);fill:none}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}
.line{fill:none;stroke:currentcolor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.dashed>.line{stroke-dasharray:5 4}
.dashed>.marks{fill:var(--surface);stroke:currentcolor;stroke-width:1.6}
.whisker{stroke:currentcolor;stroke-width:1.2;opacity:.65;fill:none}
.marks{fill:currentcolor}
.area{fill:currentcolor;fill-opacity:.28;stroke:currentcolor;stroke-width:1.3}
.bar{fill:currentcolor}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:12px 0 2px;list-style:none;font-size:.88rem}
.legend li{display:flex;align-items:center;gap:7px}
.key{flex:none}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--surface);margin-top:14px}
.scroll:focus-visible{outline:3px solid var(--focus);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:10px 12px 8px;font-size:.92rem}
th,td{padding:5px 10px;text-align:right;white-space:nowrap}
thead th{color:var(--soft);font-weight:600;border-bottom:1px solid var(--edge);vertical-align:bottom}
.bands th{border-bottom:1px solid var(--line);text-align:center}
.bands td{border:0}
thead tr:last-child th:first-child,tbody th{text-align:left}
tbody th{font-weight:500}
tbody th[scope=rowgroup]{font-weight:600;vertical-align:top}
tbody+tbody{border-top:1px solid var(--edge)}
tbody tr+tr>*{border-top:1px solid var(--grid)}
tbody tr+tr>th[scope=rowgroup]{border-top:0}
table.grouped:not(.pictures) tbody th[scope=row]{text-align:right}
table.grouped thead tr:last-child th:first-child{text-align:left}
table.pictures{min-width:860px}table.pictures thead th{text-align:left;padding-left:20px}
table.pictures thead th:nth-child(-n+2){padding-left:10px}
table.pictures td{min-width:190px;padding:8px}
.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}.soft{color:var(--soft)}
.verdict{white-space:nowrap}
.facts>div,.meanings>div{display:grid;grid-template-columns:minmax(120px,190px) 1fr;gap:4px 18px;padding:6px 0;
border-top:1px solid var(--line)}
.facts dt,.meanings dt{font-weight:600}
.facts dd,.meanings dd{color:var(--soft);overflow-wrap:anywhere}
.meanings dd{max-width:80ch}
details{margin-top:14px}
summary{cursor:pointer;font-weight:600;padding:4px 0}
summary:focus-visible{outline:3px solid var(--focus);outline-offset:2px}
footer{margin-top:48px;color:var(--soft);font-size:.85rem;border-top:1px solid var(--line);padding-top:12px}
@media (max-width:560px){body{padding:18px 12px 40px}h1{font-size:1.4rem}
.facts>div,.meanings>div{grid-template-columns:1fr;gap:0}.tiles dd{font-size:1.35rem}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media print{:root{--page:#fff}body{max-width:none;padding:0}figure,.tiles>div,tbody tr{break-inside:avoid}
h2,h3,caption{break-after:avoid}.scroll{overflow:visible;border:0}table{font-size:8.5pt}th,td{padding:2px 5px}
table.pictures{min-width:0}table.pictures td{min-width:0}section{margin-top:24px}@page{size:A4 landscape;margin:12mm}}
"""
