// A metric against latency, a line per configuration.

const NEAR = 26;  // pixels
const FAR_BAR = 1.5;
const SHAPES = {
  circle: "M-4.2,0a4.2,4.2 0 1,0 8.4,0a4.2,4.2 0 1,0 -8.4,0z",
  square: "M-3.8,-3.8h7.6v7.6h-7.6z",
  triangle: "M0,-5L4.8,3.6H-4.8z",
  diamond: "M0,-5.4L5.4,0L0,5.4L-5.4,0z",
  turned: "M0,5L4.8,-3.6H-4.8z",
  dot: "M-2.6,0a2.6,2.6 0 1,0 5.2,0a2.6,2.6 0 1,0 -5.2,0z",
};

// The defaults in black; the best three in colour, the next three in the same colours with
// dashes and hollow marks; the crowd behind them in grey.
function looksOf(lines) {
  const ranked = ["circle", "square", "triangle", "circle", "square", "triangle"];
  let rank = 0, defaults = 0;
  return lines.map((line) => {
    if (line.default) return { style: "default", shape: defaults++ % 2 ? "turned" : "diamond" };
    if (rank >= ranked.length) return { style: "other", shape: "dot" };
    return { style: `rank${rank}`, shape: ranked[rank++] };
  });
}

function swatch({ style, shape }) {
  return svg("svg", { class: `swatch ${style}`, width: 34, height: 14, "aria-hidden": "true" },
    svg("path", { class: "line", d: "M0,7H34" }),
    svg("path", { class: "mark", d: SHAPES[shape], transform: "translate(17,7)" }));
}

function drawAgainst(panel, xName, yName, width) {
  const { metrics } = panel.data, [x, y] = [metrics[xName], metrics[yName]];
  const title = `${y.label} against ${x.label}`;
  const plot = frame(width, title, `${x.label} (${x.unit})`, `${y.label} (${y.unit})`);
  const spots = panel.model.lines.flatMap((line, index) => line.rows.map((row) => {
    const { [xName]: across, [yName]: up } = panel.data.levels[row].figures;
    return across && up && { index, row, across, up };
  }));
  const drawn = spots.filter(Boolean);
  const kinds = new Set(drawn.map(({ row }) => panel.data.levels[row].kind));
  const notes = [`numbers: ${[...kinds].join(" or ")}`];
  if (!drawn.length) {
    say(plot, [...panel.model.missing[xName], ...panel.model.missing[yName]].slice(0, 5));
    return { root: plot.root, title, notes: [] };
  }
  const scales = scalesOf(panel, plot, drawn, xName, yName, notes);
  for (const spot of drawn) spot.at = [scales.x.at(spot.across[0]), scales.y.at(spot.up[0])];
  if (panel.model.lines.length > 1) drawFrontier(plot, drawn, yName, notes);
  const open = panel.model.lines.map((_, index) => index).reverse();
  const isOther = (index) => panel.looks[index].style === "other";
  for (const index of [...open.filter(isOther), ...open.filter((i) => !isOther(i))]) {
    drawLine(panel, plot, drawn.filter((spot) => spot.index === index), scales, index);
  }
  if (drawn.some(({ across, up }) => across.length > 2 || up.length > 2)) {
    notes.push(`thin bars: ${panel.data.confidence_pct}% intervals, arrows: ends not bounded`);
  }
  const lacking = spots.length - drawn.length;
  if (lacking) {
    const why = [...panel.model.missing[xName], ...panel.model.missing[yName]].slice(0, 3);
    notes.push(`${lacking} of ${spots.length} measurements not drawn: ${why.join("; ")}`);
  }
  listen(panel, plot.root, drawn);
  const rows = panel.model.lines.map((_, i) => drawn.filter((spot) => spot.index === i));
  rove(rows.filter((row) => row.length).map((row) => row.map((spot) => spot.mark)));
  return { root: plot.root, title, notes };
}

function scalesOf(panel, plot, drawn, xName, yName, notes) {
  const limits = (name) => panel.model.budgets.filter((budget) => budget.metric === name);
  const reach = (figure) => [figure[0], ...figure.slice(2).filter((end) => end !== null)
    .map((end) => Math.min(Math.max(end, figure[0] / FAR_BAR), figure[0] * FAR_BAR))];
  const across = drawn.flatMap((spot) => reach(spot.across));
  across.push(...limits(xName).map((budget) => budget.limit));
  const up = drawn.flatMap((spot) => reach(spot.up)), top = Math.max(...up);
  // A line far above would press all that was measured flat on the ground.
  const shown = limits(yName).filter((budget) => budget.limit <= 3 * top);
  up.push(...shown.map((budget) => budget.limit));
  const log = Math.min(...across) > 0 && Math.max(...across) > FAR * Math.min(...across);
  const { left, right, top: ceiling, bottom } = plot.area;
  const x = scaleOf(...bounds(across, { log }), left, right, log);
  const y = scaleOf(...bounds(up, { zero: yName === "throughput" }), bottom, ceiling);
  drawAxis(plot, x, "x");
  drawAxis(plot, y, "y");
  for (const budget of limits(xName)) drawLimit(plot, x.at(budget.limit), "x", budget.short);
  for (const budget of shown) drawLimit(plot, y.at(budget.limit), "y", budget.short);
  for (const budget of [...limits(xName), ...limits(yName)]) {
    const above = budget.metric === yName && !shown.includes(budget);
    notes.push(`dashed line: budget, ${budget.words}${above ? " (above this picture)" : ""}`);
  }
  return { x, y };
}

// The points that no other point beats in both figures, as steps.
function drawFrontier(plot, drawn, yName, notes) {
  const more = yName === "throughput";
  let best = more ? -Infinity : Infinity;
  const beats = (value) => (more ? value > best : value < best);
  const ranked = [...drawn].sort((one, other) =>
    one.across[0] - other.across[0] || (more ? -1 : 1) * (one.up[0] - other.up[0]));
  const steps = ranked.filter((spot) => beats(spot.up[0]) && ((best = spot.up[0]), true));
  const path = steps.map(({ at: [x, y] }, i) => (i ? `H${x}V${y}` : `M${x},${y}`)).join("");
  plot.inside.append(svg("path", { class: "frontier", d: `${path}H${plot.area.right}` }));
  const what = more ? "most throughput" : "least memory";
  notes.push(`wide band: the frontier, the ${what} measured within each latency`);
}

function drawLine(panel, plot, spots, scales, index) {
  const { style, shape } = panel.looks[index], { label } = panel.model.lines[index];
  const group = { class: `series ${style}${index ? "" : " first"}`, "data-line": index };
  const path = spots.map(({ at: [x, y] }, i) => `${i ? "L" : "M"}${x},${y}`).join("");
  plot.inside.append(svg("g", group, svg("path", { class: "line", d: path }),
    ...spots.flatMap((spot) => [...bars(spot, spot.across, scales.x, 0),
      ...bars(spot, spot.up, scales.y, 1)])));
  const marks = svg("g", group);
  const taken = [];
  for (const spot of spots) {
    const [x, y] = spot.at, level = panel.data.levels[spot.row];
    spot.mark = svg("g", { class: "spot", role: "button", transform: `translate(${x},${y})`,
      "data-row": spot.row, "aria-pressed": panel.pinned.has(spot.row),
      "aria-label": `${label}, ${level.load}: ${spot.up[1]}, ${spot.across[1]}` },
    svg("circle", { class: "ring", r: 9 }), svg("path", { class: "mark", d: SHAPES[shape] }));
    const words = `${level.value}`, size = LETTER * words.length + 4;
    // Left of its mark, but not outside the axes, and not over another one.
    const left = x - 7 - size < plot.area.left ? x + 7 : x - 7 - size;
    const free = ([start, end, up]) =>
      left > end || left + size < start || Math.abs(y - up) > 15;
    if (taken.every(free)) {
      spot.mark.append(svg("text", { class: "load", x: left - x + size / 2, y: -7,
        "text-anchor": "middle" }, words));
      taken.push([left, left + size, y]);
    }
    marks.append(spot.mark);
  }
  plot.marks.append(marks);
}

// Both sides of an interval; an open end is an arrow.
function bars({ at }, figure, scale, axis) {
  return figure.slice(2).map((end, side) => {
    const to = [...at];
    const outward = (side ? 1 : -1) * (axis ? -1 : 1);
    to[axis] = end === null || (scale.log && end <= 0) ? at[axis] + 18 * outward : scale.at(end);
    const [x, y] = to, back = -5 * outward;
    const head = axis ? `M${x - 3},${y + back}L${x},${y}L${x + 3},${y + back}`
      : `M${x + back},${y - 3}L${x},${y}L${x + back},${y + 3}`;
    return svg("path", { class: "bar", d: `M${at}L${to}${end === null ? head : ""}` });
  });
}

// The pointer need not hit a point: the nearest one tells, and a click pins it.
function listen(panel, root, spots) {
  const nearest = (event) => {
    const box = root.getBoundingClientRect(), unit = root.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * unit, (event.clientY - box.top) * unit];
    let found = null, least = NEAR;
    for (const spot of spots) {
      const far = Math.hypot(spot.at[0] - x, spot.at[1] - y);
      if (far < least && panel.shows(spot.index)) [found, least] = [spot, far];
    }
    return found;
  };
  let told = null;
  const tell = (spot) => {
    if (spot === told) return;
    told = spot;
    panel.hover(spot && spot.index);
    if (spot) showTip(spot.mark, ...panel.brief(spot));
    else hideTip();
  };
  root.addEventListener("pointermove", (event) => tell(nearest(event)));
  root.addEventListener("pointerleave", () => tell(null));
  root.addEventListener("click", (event) => {
    const spot = nearest(event);
    if (spot) panel.pin(spot);
  });
  for (const spot of spots) {
    spot.mark.addEventListener("focus", () => tell(spot));
    spot.mark.addEventListener("blur", () => tell(null));
    spot.mark.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      panel.pin(spot);
    });
  }
}
