"""The style sheet of a report, written into the page so that a report is one file."""

STYLE = """
:root { --ink: #22262b; --soft: #69727d; --line: #e2e5e9; --ground: #f6f7f8; --accent: #b4581c; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header, main { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 10px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 0 0 14px; }
.lead { font-size: 18px; color: var(--soft); max-width: 74ch; margin: 0; }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 20px 0 24px; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 22px 26px 26px;
  margin: 0 0 22px; }
p { margin: 0 0 12px; max-width: 78ch; }
code { font: 0.9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--ground);
  padding: 1px 5px; border-radius: 4px; overflow-wrap: anywhere; }
pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--ground); margin: 0;
  border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.banner { border-left: 6px solid var(--soft); background: var(--ground); padding: 12px 18px 2px; margin: 0 0 14px; }
.banner.green { border-color: #2e7d32; } .banner.yellow { border-color: #d9a400; }
.banner.red { border-color: #c62828; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 5px 24px; margin: 0 0 14px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 4px 0 12px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 22px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-size: 13px; font-weight: 600; color: var(--soft); white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.strong td { font-weight: 650; background: #fdf5ef; }
.note, figcaption { font-size: 14px; color: var(--soft); }
figure { margin: 0 0 16px; }
figcaption { margin: 6px 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
.gallery, .curves { display: flex; flex-wrap: wrap; gap: 12px 20px; align-items: flex-start; }
.gallery figure { flex: 1 1 300px; max-width: 520px; }
.curves figure { flex: 0 1 325px; }
.curves svg { width: 100%; height: auto; display: block; }
details { border-top: 1px solid var(--line); padding: 10px 0 2px; }
summary { cursor: pointer; color: var(--accent); margin-bottom: 10px; }
.wipe > div { --at: 50%; position: relative; display: inline-block; max-width: 100%; overflow: hidden;
  border-radius: 4px; }
.wipe .over { position: absolute; inset: 0; width: 100%; height: 100%; clip-path: inset(0 0 0 var(--at)); }
.wipe > div::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 4px rgb(0 0 0 / 60%); pointer-events: none; }
.wipe span { position: absolute; top: 10px; padding: 2px 9px; border-radius: 4px; font-size: 13px; color: #fff;
  background: rgb(0 0 0 / 55%); pointer-events: none; }
.wipe .left { left: 10px; }
.wipe .right { right: 10px; }
.wipe input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
@media (max-width: 640px) {
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; } section { padding: 16px; } }
@media print {
  body { background: #fff; } section { break-inside: avoid-page; border: 0; padding: 0; } nav { display: none; } }
"""
