"""The one script of the review page, and its own style.  It is the same text on every page: the policy has its hash."""

SCRIPT = """
"use strict";
const desk = document.getElementById("desk"), token = desk.dataset.token;
const [reason, label, said, save] = ["reason", "label", "said", "save"].map(id => document.getElementById(id));
const made = new Map();  // what is not saved yet, by image and whether it is about the label
const tell = (text, bad) => { said.textContent = text; said.className = bad ? "bad" : ""; };
const show = (sha, text, back) => {
  for (const card of document.querySelectorAll("[data-sha]")) {
    if (card.dataset.sha !== sha) continue;
    const out = card.querySelector("output");
    out.textContent = text;
    if (back) {
      const button = document.createElement("button");
      Object.assign(button, {type: "button", textContent: "Undo", onclick: back});
      out.append(" ", button);
    }
  }
};
const words = one => (one.undo ? "taken back: " : "") + one.decision + (one.label === null ? "" : " " + one.label);
const count = () => tell(made.size + (made.size === 1 ? " decision" : " decisions") + ", not saved yet", false);
const post = async one => {
  const answer = await fetch("decide", {method: "POST", body: JSON.stringify(one),
    headers: {"Content-Type": "application/json", "X-Stillroom-Token": token}});
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found.said;
};
const keep = async one => {
  const key = one.sha256 + (one.decision === "label");
  if (token) {
    try {
      tell(await post(one), false);
      show(one.sha256, words(one), one.undo ? null : () => keep({...one, label: null, undo: true}));
    } catch (error) { tell(error.message || "the server does not answer", true); }
    return;
  }
  made.delete(key);
  made.set(key, one);
  show(one.sha256, words(one), () => { made.delete(key); show(one.sha256, "", null); count(); });
  count();
};
document.addEventListener("click", event => {
  const button = event.target.closest("button[data-do]");
  if (!button) return;
  const kind = button.dataset.do, undo = "undo" in button.dataset, sha = button.closest("[data-sha]").dataset.sha;
  const name = kind === "label" && !undo ? label.value.trim() : null;
  if (name === "") { tell("first write the new label", true); label.focus(); return; }
  if (!reason.value.trim()) { tell("first write the reason", true); reason.focus(); return; }
  keep({sha256: sha, decision: kind, label: name, undo: undo, reason: reason.value.trim()});
});
if (save) save.addEventListener("click", () => {
  if (!made.size) { tell("nothing is decided yet", true); return; }
  const text = [...made.values()].map(one => JSON.stringify(one) + "\\n").join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/jsonl"}));
  link.download = "decisions.jsonl";
  link.click();
  URL.revokeObjectURL(link.href);
  made.clear();
  tell("saved as decisions.jsonl: `stillroom data decide decisions.jsonl` takes it in", false);
});
addEventListener("beforeunload", event => { if (made.size) event.preventDefault(); });
"""

CSS = """
#desk { position: fixed; inset: auto 0 0 0; z-index: 3; display: flex; flex-wrap: wrap; gap: .5rem .9rem;
  align-items: end; padding: .7rem max(1.25rem, calc(50vw - 40rem)); border-top: 1px solid var(--line);
  background: var(--card); box-shadow: 0 -2px 12px rgb(0 0 0 / .12); }
#desk label { display: grid; gap: .15rem; flex: 1 1 11rem; font-size: .82rem; color: var(--soft); }
#desk input { font: inherit; padding: .35rem .5rem; color: var(--ink); background: var(--paper); min-width: 0;
  border: 1px solid var(--line); border-radius: 6px; }
#said { flex: 2 1 16rem; margin: 0; min-height: 1.4em; font-size: .88rem; color: var(--soft); }
#said.bad { color: var(--bad); }
body { padding-bottom: 11rem; }
button { font: inherit; font-size: .82rem; padding: .2rem .6rem; color: var(--link); background: var(--paper);
  border: 1px solid var(--line); border-radius: 6px; cursor: pointer; } button:hover { border-color: var(--link); }
#save { padding: .4rem .9rem; }
.do { display: flex; flex-wrap: wrap; gap: .3rem; margin-top: .35rem; }
.words output { display: block; margin-top: .25rem; color: var(--good); font-weight: 600; }
.words { max-height: none; } .strip > .cell { width: 9.4rem; }
"""
