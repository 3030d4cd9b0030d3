"""The script of every page: it finds and sorts what the page already shows, and asks nobody for anything.

A page reads the same without it.  It is one fixed text with nothing put into it, so that the content policy can name
its hash; names and captions reach it as text of elements alone.
"""

SCRIPT = """
"use strict";
{
const make = (tag, set, ...children) => {
  const made = Object.assign(document.createElement(tag), set);
  made.append(...children);
  return made;
};
// Without accents, which one may not know how to type; small letters of their own have some (of İ, for instance).
const plain = text => text.normalize("NFD").replace(/[\\u0300-\\u036f]/g, "").toLowerCase();
const texts = new WeakMap();  // of an item, in small letters: what it shows and what it says when pointed at
const textOf = item => {
  if (!texts.has(item)) {
    const titles = [item, ...item.querySelectorAll("[title]")].map(one => one.title);
    texts.set(item, plain([item.textContent, ...titles].join(" ")));
  }
  return texts.get(item);
};
const has = (item, words) => words.every(word => textOf(item).includes(word));
const wordsOf = box => plain(box.value).split(/\\s+/).filter(word => word);
const calmly = work => {  // once for a burst of keys
  let asked = 0;
  return () => { clearTimeout(asked); asked = setTimeout(work, 120); };
};

const UNITS = {bytes: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12};
const numberOf = text => {
  const found = text.trim().match(/^([-+\\u2212]?[\\d,]*\\.?\\d+(?:e[-+]?\\d+)?)\\s*(bytes|kB|MB|GB|TB)?/);
  if (!found) return NaN;
  return Number(found[1].replaceAll(",", "").replace("\\u2212", "-")) * (UNITS[found[2]] ?? 1);
};
const compare = (a, b, numeric) =>
  numeric ? numberOf(a) - numberOf(b) : a.localeCompare(b, "en", {numeric: true});

const local = new Map();  // rows that a table's own box hides
for (const table of document.querySelectorAll(".scroll > table")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (rows.length < 4 || rows.some(row => row.cells.length !== heads.length)) continue;
  heads.forEach((head, at) => {
    const button = make("button", {type: "button", className: "sort", title: "Sort by this column"});
    button.append(...head.childNodes);
    head.append(button);
    const numeric = head.classList.contains("num");
    const order = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    button.addEventListener("click", () => {
      const next = order[order.indexOf(head.getAttribute("aria-sort")) + 1];  // then as the page had them
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1, cell = row => row.cells[at].textContent;
      const missing = row => numeric && Number.isNaN(numberOf(cell(row)));
      body.append(...(next ? [...rows].sort((a, b) =>
        missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(cell(a), cell(b), numeric))) : rows));
    });
  });
  if (rows.length < 20) continue;
  const box = make("input", {type: "search", placeholder: "Filter these rows", autocomplete: "off"});
  const said = make("output", {});
  box.setAttribute("aria-label", "Filter: " + table.caption.textContent);
  table.caption.append(make("span", {className: "filter"}, box, said));
  box.addEventListener("input", calmly(() => {
    const words = wordsOf(box);
    let left = 0;
    for (const row of rows) { const shown = has(row, words); local.set(row, !shown); left += shown; }
    said.textContent = words.length ? left + " of " + rows.length : "";
    apply();
  }));
}

const listed = "main li, main .scroll > table > tbody > tr, main .samples .px[title], main .plane > i[title]";
const items = [...document.querySelectorAll(listed)]
  .filter(item => !item.matches("li li, dd li, tbody li") && !item.closest(".legend"));
const folds = [...document.querySelectorAll("main details")].filter(fold => fold.querySelector("li, tbody tr"));
const parts = [...document.querySelectorAll("main > section, main .scroll")];  // what a search may leave empty
const before = new Map(folds.map(fold => [fold, fold.open]));
let words = [];
const apply = () => {
  let hits = 0;
  const live = new Set();  // folds and parts with something in them to see
  for (const item of items) {
    const found = has(item, words);
    hits += found;
    item.hidden = !found || !!local.get(item);
    if (item.hidden) continue;
    live.add(item.closest("section")).add(item.closest(".scroll"));
    for (let fold = item.closest("details"); fold; fold = fold.parentElement.closest("details")) live.add(fold);
  }
  for (const part of [...parts, ...folds]) part.hidden = words.length > 0 && !live.has(part);
  for (const fold of folds) {
    if (words.length && live.has(fold)) fold.open = true;
  }
  return hits;
};
if (items.length >= 20) {
  const box = make("input", {type: "search", id: "find", autocomplete: "off", spellcheck: false});
  const said = make("output", {}), label = make("label", {}, "Find an image or a row", box);
  box.placeholder = "name, label, SHA-256";
  document.querySelector("nav").append(make("p", {className: "find"}, label, said));
  box.addEventListener("input", calmly(() => {
    const searched = words.length > 0;
    words = wordsOf(box);
    if (!searched) for (const fold of folds) before.set(fold, fold.open);
    const hits = apply();
    if (!words.length) for (const fold of folds) fold.open = before.get(fold);
    const found = hits === 1 ? "1 found of " : hits.toLocaleString("en") + " found of ";
    said.textContent = words.length ? found + items.length.toLocaleString("en") + " shown here" : "";
  }));
}
}
"""

CSS = """
[hidden] { display: none !important; }
.sort { all: unset; cursor: pointer; } .sort:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.sort::after { content: " ↕"; opacity: .35; } .sort:hover::after { opacity: 1; }
th[aria-sort="ascending"] .sort::after { content: " ↑"; opacity: 1; }
th[aria-sort="descending"] .sort::after { content: " ↓"; opacity: 1; }
.filter { display: inline-flex; gap: .6rem; align-items: baseline; margin-left: .9rem; }
.filter input, .find input { font: inherit; padding: .25rem .5rem; color: var(--ink); background: var(--paper);
  border: 1px solid var(--line); border-radius: 6px; min-width: 0; }
.find { margin: .9rem 0 0; font-size: .82rem; color: var(--soft); } .find label { display: grid; gap: .2rem; }
.find output { display: block; margin-top: .3rem; min-height: 1.4em; }
@media print { .find, .filter { display: none; } .sort::after { content: none; } }
"""
