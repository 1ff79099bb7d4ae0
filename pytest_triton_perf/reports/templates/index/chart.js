// What all plots have in common: scales, axes, lines of budgets, and marks that tell.

const HEIGHT = 340;
const MARGIN = { left: 64, right: 18, top: 34, bottom: 46 };
const FAR = 20;
const LETTER = 7;  // pixels: about its width

function scaleOf(low, high, from, to, log = false) {
  const warp = log ? Math.log : (value) => value;
  const unit = (to - from) / (warp(high) - warp(low));
  const at = (value) => from + (warp(value) - warp(low)) * unit;
  return { at, ticks: log ? logTicks(low, high) : linearTicks(low, high), log };
}

function linearTicks(low, high) {
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / step), count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, i) => (first + i) * step);
}

function logTicks(low, high) {
  const decades = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    decades.push(...[1, 2, 5].map((factor) => factor * 10 ** power));
  }
  return decades.filter((tick) => tick >= low && tick <= high);
}

// Whether the next word on a line, in the middle of its place, has room beside the last one.
function roomOnLine() {
  let end = -Infinity;
  return (at, word) => {
    const half = LETTER * word.length / 2, free = at - half > end;
    if (free) end = at + half + LETTER;
    return free;
  };
}

function short(value) {
  return value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
}

// Bounds of values, with room at both sides; from 0 where that is asked for or near.
function bounds(values, { zero = false, log = false } = {}) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) return [low / 1.15, high * 1.15];
  if (zero || (low >= 0 && low < high / 2)) return [0, high * 1.08 || 1];
  const room = (high - low || Math.abs(high)) * 0.12 || 1;
  return [low - room, high + room];
}

// An empty plot: its root, a layer inside the axes, and the names of both axes.
function frame(width, label, xTitle, yTitle, height = HEIGHT) {
  const id = `clip-${frame.made = (frame.made ?? 0) + 1}`;
  const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  const area = { left: MARGIN.left, right, top: MARGIN.top, bottom };
  const size = { x: area.left, y: area.top, width: right - area.left, height: bottom - area.top };
  const axes = svg("g", { class: "axes" });
  const inside = svg("g", { "clip-path": `url(#${id})` });
  const marks = svg("g", {});
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label },
    svg("clipPath", { id }, svg("rect", size)), axes, inside, marks,
    svg("text", { class: "title", x: 4, y: 14 }, yTitle),
    svg("text", { class: "title", x: (area.left + right) / 2, y: height - 8,
      "text-anchor": "middle" }, xTitle));
  return { root, axes, inside, marks, area };
}

function drawAxis(plot, scale, axis, { grid = true } = {}) {
  const { left, right, top, bottom } = plot.area;
  const across = axis === "x", hasRoom = roomOnLine();
  for (const tick of scale.ticks) {
    const at = scale.at(tick);
    if (across && !hasRoom(at, short(tick))) continue;
    const ends = across ? { x1: at, x2: at, y1: top, y2: bottom }
      : { x1: left, x2: right, y1: at, y2: at };
    plot.axes.append(grid ? svg("line", ends) : "",
      svg("text", across ? { x: at, y: bottom + 16, "text-anchor": "middle" }
        : { x: left - 6, y: at + 4, "text-anchor": "end" }, short(tick)));
  }
}

function drawLimit(plot, at, axis, words) {
  const { left, right, top, bottom } = plot.area, across = axis === "y";
  const ends = across ? { x1: left, x2: right, y1: at, y2: at }
    : { x1: at, x2: at, y1: top, y2: bottom };
  plot.inside.append(svg("line", { class: "limit", ...ends }));
  // Lines close together have their words below the plot alone.
  const taken = (plot.limits ??= { x: [], y: [] })[axis];
  if (taken.some((other) => Math.abs(other - at) < (across ? 14 : 80))) return;
  taken.push(at);
  const middle = Math.min(Math.max(at, left + 40), right - 40);
  plot.marks.append(svg("text", { class: "limit", x: across ? right - 4 : middle,
    y: across ? at - 5 : top - 5, "text-anchor": across ? "end" : "middle" }, words));
}

// Words in the middle of a plot that has nothing to show.
function say(plot, reasons) {
  const { left, right, top, bottom } = plot.area;
  const box = svg("foreignObject", { x: left, y: top, width: right - left, height: bottom - top });
  box.append(html("div", { class: "nothing" }, ...reasons.map((text) => html("p", {}, text))));
  plot.marks.append(box);
}

// A mark that tells where it is hovered, and where it has the focus.
function telling(mark, tell) {
  for (const on of ["pointerenter", "focus"]) mark.addEventListener(on, tell);
  for (const off of ["pointerleave", "blur"]) mark.addEventListener(off, hideTip);
  return mark;
}
