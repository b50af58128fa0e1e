"use strict";
// Keys: "/" finds, j and k go through rows, g and a letter goes to a page, "?" lists them. Buttons that copy.
const keys = document.getElementById("keys");
const help = document.getElementById("help");
let going = 0;

const rows = () => [...document.querySelectorAll("main .rows a[data-row]")];

function step(by) {
  const all = rows();
  const at = all.findIndex((row) => row.closest("tr, li").contains(document.activeElement));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  next?.focus();
}

const actions = {
  "/": () => document.getElementById("find").focus(),
  "?": () => keys.showModal(),
  j: () => step(1),
  k: () => step(-1),
  g: () => { going = performance.now(); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, select, dialog")) return;
  const page = performance.now() - going < 1500 && document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
  going = 0;
  const action = page ? () => location.assign(page.href) : Object.hasOwn(actions, event.key) && actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

help.addEventListener("click", () => keys.showModal());
document.getElementById("close").addEventListener("click", () => keys.close());
for (const button of document.querySelectorAll("[data-needs-script]")) button.hidden = false;

// A button with data-copy copies the lines of what it names.
document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const lines = [...document.querySelectorAll(`${copy.dataset.copy} [data-line]`)].map((line) => line.innerText.trim().replace(/\s+/g, " "));
    const said = copy.textContent;
    copy.textContent = await put(lines.join("\n")) ? "Copied" : "Not copied: select the text";
    setTimeout(() => { copy.textContent = said; }, 2000);
  }
});

const chosen = document.querySelector("[data-chosen]"); // a form whose buttons are about its boxes

function count() {
  const number = chosen.querySelectorAll("input[name=choice]:checked").length;
  for (const button of chosen.querySelectorAll("button")) button.disabled = number === 0;
}

if (chosen) {
  count();
  chosen.addEventListener("change", (event) => {
    if (event.target.dataset.all !== undefined) for (const box of chosen.querySelectorAll("input[name=choice]")) box.checked = event.target.checked;
    count();
  });
}

async function put(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // not a secure context, or not allowed: the older way
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
