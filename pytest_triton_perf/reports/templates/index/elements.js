// Elements are made here and nowhere else: names become text or attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function html(tag, attributes, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function pairs(rows) {
  const cells = rows.flatMap(([key, value]) => [html("dt", {}, key), html("dd", {}, value)]);
  return html("dl", {}, ...cells);
}

function choice(label, options, chosen, change) {
  const id = `choice-${choice.made = (choice.made ?? 0) + 1}`;
  const select = html("select", { id, change: () => change(select.value) });
  for (const [value, text] of options) {
    select.append(html("option", { value, selected: value === chosen && "" }, text));
  }
  return html("span", { class: "choice" }, html("label", { for: id }, label), " ", select);
}

// Of many focusable marks one is a stop of the Tab key; the arrow keys go from one to the next,
// within a row and between rows; a single row goes down as it goes right.
function rove(rows) {
  const marks = rows.flat();
  for (const mark of marks) mark.setAttribute("tabindex", mark === marks[0] ? 0 : -1);
  rows.forEach((row, r) => row.forEach((mark, c) => {
    mark.addEventListener("keydown", (event) => {
      const beside = (other) => other && other[Math.min(c, other.length - 1)];
      const to = {
        ArrowRight: row[c + 1], ArrowLeft: row[c - 1], Home: row[0], End: row.at(-1),
        ArrowDown: rows[1] ? beside(rows[r + 1]) : row[c + 1],
        ArrowUp: rows[1] ? beside(rows[r - 1]) : row[c - 1],
      }[event.key];
      if (event.key.startsWith("Arrow") || to) event.preventDefault();
      if (to) to.focus();
    });
    mark.addEventListener("focus", () => {
      for (const other of marks) other.setAttribute("tabindex", other === mark ? 0 : -1);
    });
  }));
}

const tip = html("div", { class: "tip", role: "tooltip", hidden: "" });
document.body.append(tip);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
document.addEventListener("scroll", placeTip, { capture: true, passive: true });

function showTip(mark, ...content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  tip.mark = mark;
  placeTip();
}

function hideTip() {
  tip.hidden = true;
}

// Below its mark and to the right, where a rising line does not go; inside the window.
function placeTip() {
  if (tip.hidden) return;
  const at = tip.mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const inside = (start, size, most) => `${Math.max(4, Math.min(start, most - size - 4))}px`;
  const gap = 6, below = at.bottom + gap, fits = below + own.height < innerHeight;
  tip.style.left = inside(at.right, own.width, innerWidth);
  tip.style.top = inside(fits ? below : at.top - gap - own.height, own.height, innerHeight);
}
