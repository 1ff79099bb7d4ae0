// The panel of plots of each model, and what they share: lines at hand, pins, choices.

class Panel {
  constructor(root, data, model, tableRows) {
    Object.assign(this, { root, data, model, tableRows });
    this.looks = looksOf(model.lines);
    this.kept = new Set();
    this.pinned = new Map();
    this.latency = model.latency;
    this.memory = model.memories[0];
    this.line = model.lines[0];
    this.plots = html("div", { class: "plots" });
    this.details = html("div", { class: "plots" });
    this.cards = html("div", { class: "cards", "aria-live": "polite" });
    root.replaceChildren(this.choices(), this.legend(), this.plots, this.cards, this.chooser(),
      this.details);
    onWidth(root, () => {
      this.draw();
      this.drawDetails();
    });
  }

  choices() {
    const options = (names) => names.map((name) => [name, this.data.metrics[name].label]);
    const { latencies, memories } = this.model;
    return html("div", { class: "controls" },
      latencies.length > 1 ? choice("Latency", options(latencies), this.latency, (name) => {
        this.latency = name;
        this.draw();
      }) : null,
      memories.length > 1 ? choice("Memory", options(memories), this.memory, (name) => {
        this.memory = name;
        this.draw();
      }) : null,
      html("span", { class: "note" },
        "Point at a mark, or use Tab and the arrow keys, to see its configuration; "
        + "a click or Enter pins it."));
  }

  legend() {
    const buttons = this.model.lines.map((line, index) => html("button", {
      type: "button", "data-line": index, "aria-pressed": "false",
      pointerenter: () => this.hover(index), pointerleave: () => this.hover(null),
      focus: () => this.hover(index), blur: () => this.hover(null),
      click: (event) => this.keep(index, event.currentTarget),
    }, swatch(this.looks[index]), html("span", {}, line.label)));
    rove([buttons]);
    const label = "Configurations, the best first";
    return html("div", { class: "legend", role: "group", "aria-label": label }, ...buttons);
  }

  chooser() {
    const options = this.model.lines.map((line, index) => [`${index}`, line.label]);
    if (options.length < 2) return "";
    return html("div", { class: "controls" }, choice("Configuration", options, "0", (index) => {
      this.line = this.model.lines[index];
      this.drawDetails();
    }));
  }

  // Lines at hand: hovered, or kept by a click on their key. The others step back.
  hover(index) {
    this.near = index;
    this.mark();
  }

  keep(index, button) {
    const kept = this.kept.delete(index) ? false : Boolean(this.kept.add(index));
    button.setAttribute("aria-pressed", kept);
    this.mark();
  }

  shows(index) {
    return !this.kept.size || this.kept.has(index);
  }

  mark() {
    const some = this.near != null || this.kept.size > 0;
    this.root.classList.toggle("some", some);
    for (const element of this.root.querySelectorAll("[data-line]")) {
      const index = Number(element.dataset.line);
      element.classList.toggle("near", index === this.near || this.kept.has(index));
    }
  }

  draw() {
    hideTip();
    const size = this.plotWidth();
    this.plots.replaceChildren(
      figure(drawAgainst(this, this.latency, "throughput", size)),
      figure(drawAgainst(this, this.latency, this.memory, size)));
    this.mark();
    for (const row of this.pinned.keys()) this.markPinned(row, true);
  }

  drawDetails() {
    hideTip();
    const size = this.plotWidth();
    this.details.replaceChildren(figure(drawBreakdown(this, this.line, size)),
      figure(drawTimeline(this, this.line, size)));
  }

  plotWidth() {
    const columns = getComputedStyle(this.plots).gridTemplateColumns.split(" ");
    return Math.max(260, parseFloat(columns[0]) || this.root.clientWidth);
  }

  saying(level, name) {
    const figure = level.figures[name];
    return [this.data.metrics[name].label, figure ? figure[1] : "not measured"];
  }

  heading({ index, row }) {
    const { load, within } = this.data.levels[row];
    return [html("strong", {}, this.model.lines[index].label),
      html("div", {}, within ? `${load}, ${within}` : load)];
  }

  brief(spot) {
    const level = this.data.levels[spot.row];
    const names = new Set(["throughput", this.latency, this.memory]);
    return [...this.heading(spot), pairs([...level.facts.slice(0, 4),
      ...[...names].map((name) => this.saying(level, name))])];
  }

  pin(spot) {
    const there = this.pinned.get(spot.row);
    if (there) {
      there.remove();
      this.pinned.delete(spot.row);
    } else {
      const level = this.data.levels[spot.row], label = this.model.lines[spot.index].label;
      const card = html("article", { class: "card", "data-row": spot.row,
        "aria-label": `${label}, ${level.load}` },
      html("button", { type: "button", "aria-label": `Unpin ${label}, ${level.load}`,
        click: () => this.pin(spot) }, "×"),
      ...this.heading(spot), pairs([...level.facts,
        ...Object.keys(level.figures).map((name) => this.saying(level, name))]),
      ...level.remarks.map((remark) => html("p", { class: "note" }, remark)));
      this.pinned.set(spot.row, card);
      this.cards.append(card);
    }
    this.markPinned(spot.row, !there);
  }

  markPinned(row, pinned) {
    for (const spot of this.plots.querySelectorAll(`.spot[data-row="${row}"]`)) {
      spot.setAttribute("aria-pressed", pinned);
    }
    this.tableRows[row].classList.toggle("pinned", pinned);
  }
}

// Draw an element when its width is known, and again whenever it changes.
function onWidth(root, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (!root.clientWidth || root.clientWidth === width) return;
    width = root.clientWidth;
    draw(width);
  }).observe(root);
}

function figure({ root, title, notes }) {
  const lines = notes.map((note) => html("span", {}, note));
  const heading = html("h3", {}, title[0].toUpperCase() + title.slice(1));
  return html("figure", {}, heading, root, html("figcaption", {}, ...lines));
}

const data = JSON.parse(document.getElementById("data").textContent);
const levelTable = document.getElementById("levels");
const tableRows = levelTable ? enliven(levelTable, data.levels) : [];
document.querySelectorAll(".panel").forEach((root, number) =>
  new Panel(root, data, data.models[number], tableRows));
for (const root of document.querySelectorAll(".changes")) {
  if (!data.changes.length) continue;
  onWidth(root, (width) => root.replaceChildren(figure(drawChanges(data.changes, width))));
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
