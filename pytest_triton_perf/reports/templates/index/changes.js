// How each gated metric changed from the base: its interval, beside no change and the limit.

const ROW = 44;

function cut(text, most) {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

function drawChanges(changes, width) {
  const title = "Change from the base, with 95% intervals";
  const height = MARGIN.top + MARGIN.bottom + ROW * changes.length;
  const plot = frame(width, title, "change (%)", "", height), { left, right, top, bottom } = plot.area;
  const known = changes.flatMap(({ pct, low, high, limit }) => [0, pct, low, high, limit]);
  const [least, most] = bounds([...known.filter((value) => value !== null), -1, 1]);
  const x = scaleOf(least, most, left, right);
  drawAxis(plot, x, "x");
  plot.inside.append(svg("path", { class: "zero", d: `M${x.at(0)},${top}V${bottom}` }));
  const rows = changes.map((change, number) => {
    const y = top + ROW * (number + 0.5) + 8;
    const middle = x.at(change.pct);
    const sides = [[change.low, -1], [change.high, 1]].map(([end, outward]) => {
      const to = end === null ? middle + 24 * outward : x.at(end), back = to - 5 * outward;
      const head = `M${back},${y - 3}L${to},${y}L${back},${y + 3}`;
      return `M${middle},${y}H${to}${end === null ? head : ""}`;
    });
    const dot = svg("circle", { class: "mark", cx: middle, cy: y, r: 4.5 });
    const row = svg("g", { class: `change ${change.status.replace(" ", "-")}`, role: "img",
      "aria-label": `${change.status}, ${change.label}: ${change.words}` },
    svg("rect", { class: "hit", x: left, y: y - ROW / 2 - 8, width: right - left, height: ROW }),
    svg("text", { x: left + 4, y: y - 12 }, cut(change.label, (right - left) / LETTER)),
    svg("path", { class: "bar", d: sides.join("") }),
    dot,
    change.limit === null ? "" : svg("path", { class: "limit",
      d: `M${x.at(change.limit)},${y - 9}v18` }));
    plot.marks.append(row);
    return telling(row, () => showTip(dot, html("strong", {}, change.status),
      html("div", {}, change.label), html("div", {}, change.words)));
  });
  rove(rows.map((row) => [row]));
  const notes = ["dashed mark: the limit; a throughput below 0 is worse, a latency above"];
  return { root: plot.root, title, notes };
}
