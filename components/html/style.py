"""The look of the reports.  In a module, and not in a .css file, so that DVC sees a change of it as one."""

CSS = """
:root { color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d2327; --soft: #5a646b; --line: #dfdcd6; --wash: #f1efea;
  --link: #0b5d78; --good: #2c6e49; --bad: #a3341f; --focus: #c77700;
  --c1: #1b6f8f; --c2: #d08a1d; --c3: #6a4c93; --c4: #8a8f94; --c5: #b23a48; --c6: #3d7f4e;
  --r0: #d19a00; --r1: #a3a02a; --r2: #6fa04b; --r3: #3b976e; --r4: #1b8789; --r5: #1f6d96; --r6: #3f5491;
  --r7: #5a2f7a;
  --check: #e4e1da;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
@media screen and (prefers-color-scheme: dark) { :root {
  --paper: #14181b; --card: #1b2125; --ink: #e7e9ea; --soft: #a3adb4; --line: #333c42; --wash: #232a2f;
  --link: #7cc6e0; --good: #7cc796; --bad: #f0917c; --focus: #f0b354;
  --c1: #5bb4d4; --c2: #e8ae55; --c3: #b197d6; --c4: #8d979e; --c5: #e37f8a; --c6: #7cc08c;
  --r0: #f2d15c; --r1: #c9d15f; --r2: #93cf73; --r3: #5fc48f; --r4: #4db5ab; --r5: #5a9fc4; --r6: #8f96dd;
  --r7: #b784d6;
  --check: #2a3237; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0 auto; padding: 0 1.25rem 3rem; max-width: 84rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); overflow-wrap: anywhere; display: grid; gap: 0 3rem;
  grid-template-columns: minmax(0, 1fr); }
body > * { min-width: 0; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: 1rem; top: .5rem; padding: .4rem .8rem; background: var(--card); z-index: 2; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: 3px; }
a { color: var(--link); }
header { padding: 2.5rem 0 .5rem; }
.brand { margin: 0; color: var(--soft); font-size: .8rem; letter-spacing: .12em; text-transform: uppercase; }
h1 { margin: .1rem 0 .6rem; font-size: clamp(1.7rem, 4vw, 2.4rem); line-height: 1.15; font-weight: 650;
  letter-spacing: -.015em; text-wrap: balance; }
h2 { margin: 3.2rem 0 .8rem; padding-top: 1.1rem; border-top: 1px solid var(--line); font-size: 1.35rem;
  line-height: 1.25; font-weight: 650; letter-spacing: -.01em; }
h3 { margin: 2rem 0 .6rem; font-size: 1.02rem; font-weight: 650; }
p { margin: .6rem 0; max-width: 46rem; }
.lede p { font-size: 1.08rem; }
.note, .more, .empty, figcaption { color: var(--soft); font-size: .93rem; }
.empty { padding: .7rem 1rem; border: 1px dashed var(--line); border-radius: 8px; }
.warn { border-left: 3px solid var(--bad); padding-left: .8rem; }
nav h2 { margin: 1.4rem 0 .4rem; padding: 0; border: 0; font-size: .8rem; letter-spacing: .1em; color: var(--soft);
  text-transform: uppercase; font-weight: 600; }
nav ol { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem;
  font-size: .95rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
.tiles { display: grid; gap: .8rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fill, minmax(12.2rem, 1fr)); }
.tiles > div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }
.tiles dt { color: var(--soft); font-size: .86rem; }
.tiles dd { margin: 0; }
.tiles .value { font-size: 1.55rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums;
  letter-spacing: -.01em; }
.tiles .remark { color: var(--soft); font-size: .82rem; line-height: 1.35; }
.scroll { overflow-x: auto; width: fit-content; max-width: 100%; margin: 1rem 0 .4rem;
  border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; min-width: 19rem; font-size: .9rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
caption { text-align: left; padding: .7rem .9rem .3rem; color: var(--soft); font-size: .86rem; }
th, td { padding: .42rem .7rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; border-bottom: 1px solid var(--line); color: var(--soft); font-weight: 600;
  font-size: .82rem;
  white-space: nowrap; vertical-align: bottom; }
tbody tr:first-child > * { border-top: 0; }
tbody th { font-weight: 500; max-width: 22rem; overflow-wrap: anywhere; }
td { max-width: 28rem; overflow-wrap: anywhere; }
tbody th:not(.num) { min-width: 9rem; } th code, td code { white-space: nowrap; } td:not(.num) { min-width: 6.5rem; }
.num { text-align: right; white-space: nowrap; padding-left: .4rem; }
figure { margin: 1rem 0; min-width: 0; }
.charts { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.charts figure { margin: 0; padding: .9rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.charts svg { display: block; width: 100%; max-width: 29rem; height: auto; }
figcaption { margin-top: .5rem; font-size: .86rem; line-height: 1.45; }
svg text { font: 11px var(--sans); fill: var(--soft); }
svg .head { font-size: 12.5px; font-weight: 600; fill: var(--ink); }
svg .value { fill: var(--ink); }
svg .end { text-anchor: end; } svg .mid { text-anchor: middle; }
svg .axis { stroke: var(--soft); stroke-width: 1; } svg .grid { stroke: var(--line); stroke-width: 1; }
svg .line { fill: none; stroke-width: 1.7; stroke-linejoin: round; stroke-linecap: round; }
svg .faint { opacity: .45; } svg .dash { stroke-dasharray: 4 3; }
  svg .hollow { fill: var(--card) !important; stroke-width: 2; }
.f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); } .f4 { fill: var(--c4); }
  .f5 { fill: var(--c5); } .f6 { fill: var(--c6); }
.s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); } .s4 { stroke: var(--c4); }
  .s5 { stroke: var(--c5); } .s6 { stroke: var(--c6); }
.t0 { stroke: var(--r0); } .t1 { stroke: var(--r1); } .t2 { stroke: var(--r2); } .t3 { stroke: var(--r3); }
.t4 { stroke: var(--r4); } .t5 { stroke: var(--r5); } .t6 { stroke: var(--r6); } .t7 { stroke: var(--r7); }
.legend { display: flex; flex-wrap: wrap; gap: .15rem 1rem; margin: .4rem 0 0; padding: 0; list-style: none;
  font-size: .82rem; color: var(--soft); }
.legend svg { display: inline-block; width: 1.3rem; height: .7rem; margin-right: .35rem; vertical-align: baseline; }
details { margin: .9rem 0; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
details details { background: var(--paper); }
summary { cursor: pointer; padding: .65rem 1rem; font-weight: 600; display: flex; gap: .8rem;
  align-items: baseline; }
summary::before { content: "▸"; color: var(--soft); font-size: .8em; }
  details[open] > summary::before { content: "▾"; }
summary::-webkit-details-marker { display: none; }
.count { white-space: nowrap; color: var(--soft); font-weight: 400; font-variant-numeric: tabular-nums; }
.inside { padding: 0 1rem .6rem; } .inside > :first-child { margin-top: 0; }
.strip { display: flex; flex-wrap: wrap; gap: .9rem; margin: .8rem 0; padding: 0; list-style: none; }
.strip > li { min-width: 0; }
.strip:has(> .pair) { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18.5rem), 1fr)); }
.strip.wide:has(> .pair) { grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.5rem), 1fr)); }
.pair { display: flex; gap: .7rem; align-items: flex-start; padding: .6rem; border: 1px solid var(--line);
  border-radius: 10px; background: var(--card); }
details .pair, details .cell { background: var(--paper); }
.pair .both { display: flex; gap: .35rem; flex: none; }
.cell { width: 7.4rem; padding: .5rem; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); }
.words { min-width: 0; flex: 1; font-size: .8rem; line-height: 1.35; color: var(--soft); max-height: 9.6rem;
  overflow: hidden; }
.words b { display: block; color: var(--ink); font-weight: 600; }
.words span { display: block; }
.cell .words { margin-top: .35rem; }
.tag { display: inline-block !important; padding: 0 .45em; border-radius: 99px; border: 1px solid currentColor;
  font-size: .72rem; line-height: 1.5; }
.kept, .train { color: var(--good); } .rejected, .withdrawn, .refused { color: var(--bad); }
.val { color: var(--c2); } .test { color: var(--c3); } .quarantine { color: var(--bad); }
.px { display: inline-block; flex: none; vertical-align: top; background-color: var(--check);
  width: var(--s); height: var(--s); background-size: calc(var(--w) * var(--s)) calc(var(--h) * var(--s));
  background-position: calc(var(--c) * -1 * var(--s)) calc(var(--r) * -1 * var(--s));
  background-repeat: no-repeat; border-radius: 4px;
  image-rendering: pixelated; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.soft { image-rendering: auto; }
main > section { content-visibility: auto; contain-intrinsic-size: auto 60rem; }
.pair, .cell, .compare, .torn > li { content-visibility: auto; contain-intrinsic-size: auto 9rem; }
.compare { contain-intrinsic-size: auto 19rem; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .4em; border: 1px solid var(--line);
  border-radius: 3px; vertical-align: -.1em; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
h4 { margin: 1.1rem 0 .3rem; font-size: .9rem; font-weight: 600; color: var(--soft); }
.compares { display: grid; gap: .9rem; margin: .5rem 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19.5rem), 1fr)); }
.compare { padding: .8rem; border: 1px solid var(--line); border-radius: 10px; background: var(--paper); }
.compare .both { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; }
.compare figure { margin: 0; text-align: center; } .compare .px, .compare .none { max-width: 100%; }
.compare figcaption { margin-top: .3rem; font-size: .8rem; line-height: 1.35; }
.compare figcaption b { color: var(--ink); font-weight: 600; display: -webkit-box; -webkit-box-orient: vertical;
  -webkit-line-clamp: 2; overflow: hidden; }
.compare p { margin: .5rem 0 .2rem; line-height: 1.2; }
.facts { margin: .3rem 0 0; font-size: .8rem; line-height: 1.4; }
.facts > div { display: flex; gap: .8rem; justify-content: space-between; border-top: 1px solid var(--line);
  padding: .12rem 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.torn { display: grid; gap: .9rem; margin: .8rem 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
.torn > li { display: flex; gap: 1rem; padding: .8rem; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); }
.torn .own { flex: none; width: 5.5rem; } .torn .sides { flex: 1; min-width: 0; }
.torn .side { display: flex; gap: .7rem; padding-left: .8rem; border-left: 3px solid var(--line);
  margin-bottom: .7rem; } .torn .side:last-child { margin-bottom: 0; }
.torn .both { display: flex; flex: none; flex-wrap: wrap; gap: .35rem; max-width: 60%; align-content: flex-start; }
.map > p { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .8rem 0 .4rem; max-width: none;
  font-size: .88rem; }
.map label { display: inline-flex; align-items: center; gap: .35rem; white-space: nowrap; cursor: pointer; }
.map input { margin: 0; accent-color: var(--c1); }
.map label[class]::after { content: ""; width: .7em; height: .7em; border-radius: 50%; background: currentColor; }
.view { height: min(82vh, 40rem); overflow: auto; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); contain: strict; }
.plane { position: relative; --z: 1; width: calc(var(--z) * 100%); height: calc(var(--z) * 100%); }
.map:has(#zoom2:checked) .plane { --z: 2; } .map:has(#zoom4:checked) .plane { --z: 4; }
.map:has(#zoom8:checked) .plane { --z: 8; }
.plane i { position: absolute; left: calc(1.3rem + (100% - 2.6rem) * var(--x) / 100);
  top: calc(1.3rem + (100% - 2.6rem) * var(--y) / 100); margin: calc(var(--s) / -2); z-index: 1;
  box-shadow: 0 0 0 2px currentColor; }
.map:has(#zoom1:checked) :is(.z2, .z4, .z8):not(:hover), .map:has(#zoom2:checked) :is(.z4, .z8):not(:hover),
.map:has(#zoom4:checked) .z8:not(:hover) { --s: 6px; z-index: 0; border-radius: 50%;
  background: currentColor; box-shadow: none; }
.plane i:hover { z-index: 3; }
.plane i:hover::after { content: ""; position: absolute; inset: 0; background: inherit; border-radius: inherit;
  box-shadow: 0 0 0 .75px; transform: scale(4); transform-origin: calc(var(--x) * 1%) calc(var(--y) * 1%);
  pointer-events: none; }
.map:has(#show-train:not(:checked)) i.train, .map:has(#show-val:not(:checked)) i.val,
.map:has(#show-test:not(:checked)) i.test, .map:has(#show-quarantine:not(:checked)) i.quarantine {
  visibility: hidden; }
.none { display: inline-flex; flex: none; align-items: center; justify-content: center; text-align: center;
  padding: .2rem; overflow: hidden;
  border: 1px dashed var(--soft); border-radius: 4px; color: var(--soft); font-size: .68rem; line-height: 1.15; }
.samples { display: grid; gap: .5rem 1rem; align-items: center;
  grid-template-columns: minmax(6rem, 10rem) minmax(0, 1fr); margin: .8rem 0; }
.samples dt { font-weight: 600; font-size: .92rem; }
.samples dt small { display: block; font-weight: 400; color: var(--soft); }
.samples dd { margin: 0; display: flex; flex-wrap: wrap; gap: 4px; }
.samples.beside { grid-template-columns: minmax(6rem, 8.5rem) minmax(0, 1fr) minmax(0, 1fr); row-gap: 1.1rem; }
.samples dd.real { border-left: 2px solid var(--line); padding-left: .6rem; }
.film { overflow-x: auto; padding-bottom: .4rem; }
.film table { width: auto; } .film td, .film th { border: 0; padding: 2px; }
  .film td:not(.num), .film th:not(.num) { min-width: 0; }
.drawn td { vertical-align: top; } .drawn small { display: block; width: 6.4rem; margin: .15rem 0 .5rem;
  color: var(--soft); font-size: .72rem; line-height: 1.25; }
  .film th { color: var(--soft); font-size: .78rem; white-space: nowrap; }
pre { margin: .6rem 0 1rem; padding: .9rem 1rem; overflow-x: auto; border: 1px solid var(--line);
  border-radius: 10px; background: var(--wash);
  font: .84rem/1.5 var(--mono); white-space: pre-wrap; }
code { font-family: var(--mono); font-size: .88em; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .85rem; }
@media (min-width: 70rem) {
  body { grid-template-columns: 12.5rem minmax(0, 1fr); grid-template-rows: auto 1fr auto; }
  header, footer { grid-column: 2; }
  nav { grid-column: 1; grid-row: 1 / span 2; position: sticky; top: 0; align-self: start; padding-top: 2.1rem;
  max-height: 100vh; overflow-y: auto; }
  nav ol { flex-direction: column; gap: .45rem; } main { grid-column: 2; } }
@media (max-width: 56rem) {
  .samples.beside { grid-template-columns: repeat(2, minmax(0, 1fr)); } .samples.beside dt { grid-column: 1 / -1; } }
@media (max-width: 30rem) {
  body { padding: 0 .9rem 2rem; } .samples, .samples.beside { grid-template-columns: minmax(0, 1fr); }
  th, td { padding: .4rem .6rem; }
  .tiles { grid-template-columns: 1fr 1fr; } .tiles .value { font-size: 1.2rem; }
  .inside { padding: 0 .6rem .4rem; }
  .plane i.px { --s: 18px; }
  .torn > li { flex-direction: column; gap: .6rem; }
  .torn .own { display: flex; gap: .7rem; width: auto; }
  .strip { gap: .55rem; } .cell { width: 6.15rem; padding: .4rem; } }
@media print {
  main > section, .pair, .cell, .compare, .torn > li { content-visibility: visible; }
  html { font-size: 12px; } thead th, .num { white-space: normal; } th, td { padding: .3rem .5rem; }
  :root { --paper: #fff; --card: #fff; } body { display: block; max-width: none; font-size: 9.5pt; }
  nav, .skip { display: none; }
  h2, h3, summary { break-after: avoid; } figure, .pair, .cell, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  details:not([open]) { display: none; } a { color: inherit; text-decoration: none; } }
"""
