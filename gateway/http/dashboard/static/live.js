"use strict";
// A page with data-live asks for its content again when the gateway says that something has changed. It rests while it is
// hidden, and asks every 5 s where it gets no stream.
const live = document.querySelector("main[data-live]");
const news = document.getElementById("news");
const GAP = 500, EVERY = 5000, AGAIN = 60000; // milliseconds
let stream = null, timer = null, wanted = false, asking = false, asked = 0;

function tell(text) {
  news.hidden = false;
  if (news.textContent !== text) news.textContent = text;
}

async function ask() {
  wanted = true;
  if (asking) return;
  asking = true;
  while (wanted && !document.hidden) {
    const pause = asked + GAP - performance.now();
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    wanted = false;
    const path = location.pathname + location.search;
    await htmx.ajax("GET", path, { source: live, target: live, swap: "innerMorph" }).catch(() => {});
    asked = performance.now();
  }
  asking = false;
}

function poll() {
  tell("Asks for news every 5 s.");
  timer ??= setInterval(ask, EVERY);
}

function stop() {
  stream?.close();
  clearInterval(timer);
  stream = timer = null;
}

function listen() {
  stop();
  if (document.hidden) return;
  stream = new EventSource("/changes");
  stream.addEventListener("open", () => {
    clearInterval(timer);
    timer = null;
    tell("Live.");
    ask(); // for what came before the stream
  });
  stream.addEventListener("message", ask);
  stream.addEventListener("error", () => {
    if (stream?.readyState !== EventSource.CLOSED) return tell("The gateway does not answer; the page waits for it.");
    poll(); // too many are open
    setTimeout(() => timer && listen(), AGAIN);
  });
}

document.addEventListener("htmx:before:request", (event) => document.hidden && event.preventDefault()); // progress, too, rests

if (live) {
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : (ask(), listen())));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", listen);
}
