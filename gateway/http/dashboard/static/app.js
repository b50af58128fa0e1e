"use strict";
// "/" goes to the find box; a page with data-refresh shows what is new, while it is seen and nobody uses it.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    document.getElementById("find").focus();
  }
});

const main = document.querySelector("main[data-refresh]");
if (main) {
  const refresh = async () => {
    if (document.hidden || main.contains(document.activeElement) && document.activeElement !== main) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store", redirect: "error" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      main.replaceChildren(...page.querySelector("main").childNodes);
      document.title = page.title;
    } catch { /* the gateway does not answer now; the next time it may */ }
  };
  setInterval(refresh, Number(main.dataset.refresh) * 1000);
  document.addEventListener("visibilitychange", refresh);
}
