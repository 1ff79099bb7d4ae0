// One configuration: where the server's time goes at each load, and its memory over time.

const PARTS = ["queue_ms", "compute_input_ms", "compute_infer_ms", "compute_output_ms"];
const NARROW = 12;  // pixels: no room for a name

function key(words) {
  return html("span", { class: "keys" }, ...words.map(([style, text]) =>
    html("span", {}, html("i", { class: style }), ` ${text}`)));
}

function drawBreakdown(panel, line, width) {
  const levels = line.rows.map((row) => panel.data.levels[row]);
  const kinds = [...new Set(levels.map((level) => level.kind))].join(" or ");
  const title = "Where the server's time goes";
  const plot = frame(width, `${title}, ${line.label}`, kinds, "average time per request (ms)");
  const stacks = levels.map((level) => PARTS.map((part) => level.figures[part]?.[0] ?? null));
  const told = stacks.filter((stack) => !stack.includes(null));
  if (!told.length) {
    say(plot, PARTS.flatMap((part) => panel.model.missing[part]).slice(0, 5));
    return { root: plot.root, title, notes: [] };
  }
  const clients = levels.map((level) => level.figures.avg_latency_ms?.[0] ?? 0);
  const tops = told.map((stack) => stack.reduce((sum, part) => sum + part, 0));
  const { left, right, top, bottom } = plot.area;
  const y = scaleOf(0, 1.08 * Math.max(...tops, ...clients) || 1, bottom, top);
  drawAxis(plot, y, "y");
  const step = (right - left) / levels.length, wide = Math.min(48, step * 0.7);
  const hasRoom = roomOnLine();
  const columns = levels.map((level, i) => {
    const middle = left + step * (i + 0.5);
    if (hasRoom(middle, `${level.value}`)) {
      plot.axes.append(svg("text", { x: middle, y: bottom + 16, "text-anchor": "middle" },
        level.value));
    }
    let base = 0;
    const whole = { x: middle - step / 2, y: top, width: step, height: bottom - top };
    const column = svg("g", { class: "column", role: "img" },
      svg("rect", { class: "hit", ...whole }));
    if (!stacks[i].includes(null)) {
      stacks[i].forEach((part, number) => {
        column.append(svg("rect", { class: `part${number}`, x: middle - wide / 2, width: wide,
          y: y.at(base + part), height: y.at(base) - y.at(base + part) }));
        base += part;
      });
    }
    if (clients[i]) {
      const dash = `M${middle - wide / 2 - 4},${y.at(clients[i])}h${wide + 8}`;
      column.append(svg("path", { class: "client", d: dash }));
    }
    plot.marks.append(column);
    const names = [...PARTS, "avg_latency_ms", "throughput"];
    column.setAttribute("aria-label",
      `${level.load}: ${names.map((n) => panel.saying(level, n).join(" ")).join(", ")}`);
    return telling(column, () => showTip(column, html("strong", {}, level.load),
      pairs(names.map((name) => panel.saying(level, name)))));
  });
  rove([columns]);
  const names = PARTS.map((part, i) => [`part${i}`, panel.data.metrics[part].label]);
  const lacking = stacks.length - told.length;
  const why = PARTS.flatMap((part) => panel.model.missing[part]).slice(0, 1);
  return {
    root: plot.root, title,
    notes: [key([...names, ["client", "average latency that the client sees"]]),
      ...(lacking ? [`${lacking} of ${stacks.length} loads without bar: ${why}`] : [])],
  };
}

function drawTimeline(panel, line, width) {
  const title = "Memory over time";
  const seconds = "seconds since loading began";
  const plot = frame(width, `${title}, ${line.label}`, seconds, "memory (MB)");
  const { timeline } = line, { left, right, top, bottom } = plot.area;
  if (!timeline || !timeline.curves.length || !timeline.phases.length) {
    say(plot, ["no timeline was recorded"]);
    return { root: plot.root, title, notes: [] };
  }
  const highest = Math.max(...timeline.curves.flatMap((curve) => curve.mb), 1);
  const budgets = panel.model.budgets.filter((budget) =>
    panel.model.memories.includes(budget.metric) && budget.limit <= 3 * highest);
  const ceiling = Math.max(highest, ...budgets.map((budget) => budget.limit));
  // The names of the phases stand above the curves.
  const longest = Math.max(...timeline.phases.map(([name]) => name.length));
  const free = Math.min(0.6, (LETTER * longest + 14) / (bottom - top));
  const y = scaleOf(0, ceiling / (1 - free), bottom, top);
  const x = scaleOf(0, timeline.phases.at(-1)[2], left, right);
  const bands = timeline.phases.map(([name, start, end]) => {
    const [from, to] = [x.at(start), x.at(end)];
    const band = svg("g", { class: "band", role: "img" },
      svg("rect", { x: from, y: top, width: Math.max(to - from, 0), height: bottom - top }));
    if (to - from >= NARROW) {
      const middle = (from + to) / 2 + 4;
      band.append(svg("text", { transform: `translate(${middle},${top + 4})rotate(-90)`,
        "text-anchor": "end" }, name));
    }
    const facts = timeline.curves.map((curve) => {
      const inside = curve.mb.filter((_, i) => curve.at_s[i] >= start && curve.at_s[i] <= end);
      return [`highest ${curve.label}`, inside.length ? `${short(Math.max(...inside))} MB` : "–"];
    });
    facts.unshift(["seconds", `${short(start)} to ${short(end)}`]);
    band.setAttribute("aria-label", `${name}: ${facts.map((fact) => fact.join(" ")).join(", ")}`);
    plot.axes.append(band);
    return telling(band, () => showTip(band, html("strong", {}, name), pairs(facts)));
  });
  drawAxis(plot, y, "y");
  drawAxis(plot, x, "x", { grid: false });
  timeline.curves.forEach((curve, number) => {
    const at = curve.at_s.map((s, i) => [x.at(s), y.at(curve.mb[i])]);
    const look = { class: `curve curve${number % 4}` };
    plot.inside.append(svg("path", { ...look, d: `M${at.join("L")}` }));
    if (at.length < 3) {
      plot.inside.append(...at.map(([cx, cy]) => svg("circle", { ...look, cx, cy, r: 2 })));
    }
  });
  for (const budget of budgets) drawLimit(plot, y.at(budget.limit), "y", budget.short);
  rove([bands]);
  return {
    root: plot.root, title,
    notes: [key(timeline.curves.map((curve, i) => [`curve${i % 4}`, curve.label])),
      ...budgets.map((budget) => `dashed line: budget, ${budget.words}`)],
  };
}
