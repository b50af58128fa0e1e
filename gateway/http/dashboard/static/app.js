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

// A button with data-copy copies the text of what it names; one with data-all checks or clears a form's boxes.
document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const lines = [...document.querySelectorAll(`${copy.dataset.copy} [data-line]`)].map((line) => line.innerText.trim().replace(/\s+/g, " "));
    const said = copy.textContent;
    copy.textContent = await put(lines.join("\n")) ? "Copied" : "Not copied: select the text";
    setTimeout(() => { copy.textContent = said; }, 2000);
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (!form) return;
  if (event.target.dataset.all !== undefined) for (const box of form.querySelectorAll("input[name=choice]")) box.checked = event.target.checked;
  const chosen = form.querySelectorAll("input[name=choice]:checked").length;
  for (const button of form.querySelectorAll("[data-chosen]")) button.disabled = chosen === 0;
});

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
