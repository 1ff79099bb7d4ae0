// The table of all measurements: sorted by any column, filtered by words and by choice.

const CHOICES = ["Model", "Within Constraints"];
const collator = new Intl.Collator(undefined, { numeric: true });

function enliven(table, levels) {
  const body = table.tBodies[0], rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells], names = heads.map((head) => head.textContent);
  const cells = rows.map((row) => [...row.cells].map((cell) => cell.textContent));
  sortable(body, rows, heads, names, (column, row) => keyOf(column, row));
  filterable(table, rows, names, cells);
  return rows;

  function keyOf(column, row) {
    const text = cells[row][column];
    if (names[column] === "Load") {
      const { kind, batch, value } = levels[row];
      return [kind, batch, value];
    }
    if (!heads[column].classList.contains("figure")) return [text];
    const number = parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(number) ? null : [number];
  }
}

function compare(one, other) {
  for (let i = 0; i < one.length; i++) {
    const text = typeof one[i] === "string";
    const order = text ? collator.compare(one[i], other[i]) : one[i] - other[i];
    if (order) return order;
  }
  return 0;
}

// A click sorts upwards, the next one downwards, the third brings back the order of measuring.
// What was not measured stands last either way.
function sortable(body, rows, heads, names, keyOf) {
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  heads.forEach((head, column) => {
    head.setAttribute("aria-sort", "none");
    head.dataset.name = names[column];
    head.replaceChildren(html("button", { type: "button", click: sort }, names[column]));
    function sort() {
      const direction = next[head.getAttribute("aria-sort")];
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", direction);
      const keys = rows.map((_, row) => keyOf(column, row));
      const order = [...rows.keys()];
      const sign = direction === "descending" ? -1 : 1;
      if (direction !== "none") {
        order.sort((a, b) => (keys[a] && keys[b] ? sign * compare(keys[a], keys[b])
          : !keys[a] - !keys[b]));
      }
      body.append(...order.map((row) => rows[row]));
    }
  });
}

function filterable(table, rows, names, cells) {
  const chosen = new Map();
  const count = html("output", {});
  const placeholder = "words, e.g. config_1";
  const words = html("input", { type: "search", placeholder, input: filter });
  const controls = html("div", { class: "controls" }, html("label", {}, "Filter ", words));
  for (const name of CHOICES.filter((choice) => names.includes(choice))) {
    const column = names.indexOf(name), values = [...new Set(cells.map((row) => row[column]))];
    if (values.length < 2) continue;
    const options = [["", "any"], ...values.map((value) => [value, value])];
    controls.append(choice(name, options, "", (value) => {
      chosen.set(column, value);
      filter();
    }));
  }
  controls.append(count);
  table.parentElement.before(controls);
  const texts = cells.map((row) => row.join("\n").toLowerCase());
  filter();

  // A row stays that has all the words and all that was chosen.
  function filter() {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      const kept = asked.every((word) => texts[i].includes(word))
        && [...chosen].every(([column, value]) => !value || cells[i][column] === value);
      row.hidden = !kept;
      shown += kept;
    });
    count.textContent = `${shown} of ${rows.length} measurements`;
  }
}
