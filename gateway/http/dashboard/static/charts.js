"use strict";
// Draws what a data-chart attribute has, and again when it has something else, or the window or the colours are others.
const drawn = new Map();
const PALETTE = 8, HEIGHT = 200;

function colours(element) { // a canvas knows no variables
  const probe = element.appendChild(document.createElement("i"));
  const found = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  setTimeout(() => probe.remove());
  return found;
}

function options(element, labels) {
  const colour = colours(element), unit = element.dataset.unit, reading = element.nextElementSibling;
  const axis = { stroke: colour("--soft-text"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  return {
    width: element.clientWidth, height: HEIGHT, legend: { show: false }, hooks: { setCursor: [(self) => { reading.textContent = read(self); }] }, cursor: { y: false, drag: { setScale: false } },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
    scales: { x: { time: true }, y: { range: (self, low, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
    axes: [
      { ...axis, size: 28, values: (self, splits) => splits.map(clock), space: 64 },
      { ...axis, size: 52, values: (self, splits) => splits.map((value) => value.toLocaleString("en") + unit) },
    ],
    series: [
      {},
      ...labels.map((label, index) => ({ label, stroke: colour(`--line-${(index % PALETTE) + 1}`), width: 2, dash: index < PALETTE ? [] : [6, 3], points: { show: true, size: 5, filter: lonely } })),
    ],
  };
}

function lonely(plot, line) { // heights without one beside them, which have no line
  const heights = plot.data[line];
  return [...heights.keys()].filter((at) => heights[at] != null && heights[at - 1] == null && heights[at + 1] == null);
}

function clock(seconds) {
  return new Date(seconds * 1e3).toISOString().slice(11, 16);
}

function read(plot) { // what is under the pointer
  const at = plot.cursor.idx;
  if (at == null) return "";
  const heights = plot.series.slice(1).map((one, index) => [one.label, plot.data[index + 1][at]]).filter(([, height]) => height);
  return `${clock(plot.data[0][at])}: ${heights.map(([label, height]) => `${label} ${height.toLocaleString("en")}`).join(", ") || "nothing"}`;
}

function draw(element, again) {
  const text = element.dataset.chart;
  const before = drawn.get(element);
  if (!again && before?.text === text) return;
  const { labels, columns } = JSON.parse(text);
  const names = labels.join("\n");
  if (!again && before?.names === names) {
    before.plot.setData(columns);
    before.text = text;
    return;
  }
  before?.plot.destroy();
  const plot = labels.length ? new uPlot(options(element, labels), columns, element) : { destroy() {}, setData() {}, setSize() {} };
  drawn.set(element, { plot, text, names });
}

function drawAll(again) {
  for (const element of document.querySelectorAll("[data-chart]")) draw(element, again);
}

addEventListener("htmx:after:swap", () => drawAll(false));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(true));
new ResizeObserver(() => {
  for (const [element, { plot }] of drawn) plot.setSize({ width: element.clientWidth, height: HEIGHT });
}).observe(document.querySelector("main"));
drawAll(false);
