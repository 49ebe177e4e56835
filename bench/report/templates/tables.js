"use strict";
// Buttons in the headings that sort the rows of each table body, and a field that filters them.
const UNITS = {fs: 1e-15, ps: 1e-12, ns: 1e-9, "µs": 1e-6, ms: 1e-3};
const NUMBER = /^[≤×\s]*([−-]?[\d,]+(?:\.\d+)?(?:e[−-]?\d+)?)\s*(fs|ps|ns|µs|ms)?/;
function valueOf(cell) {
  if (cell === undefined) return null;
  if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  const text = cell.textContent.trim(), found = NUMBER.exec(text);
  if (text === "" || text === "–") return null;
  if (found === null) return text;
  return Number(found[1].replaceAll(",", "").replaceAll("−", "-")) * (UNITS[found[2]] || 1);
}
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, {numeric: true});
}
function sort(table, column, sign) {
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter(row => !row.classList.contains("group"));
    const keyed = rows.map(row => [valueOf(row.cells[column]), row]);
    keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  }
}
function filter(table, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const body of table.tBodies)
    for (const row of body.rows)
      if (!row.classList.contains("group"))
        row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
}
for (const table of document.querySelectorAll("table")) {
  const rows = [...table.tBodies].reduce((sum, body) => sum + body.rows.length, 0);
  if (table.tHead === null || rows < 3) continue;
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(table, column, ascending ? 1 : -1);
    });
  });
  if (rows < 8) continue;
  const field = document.createElement("input");
  field.type = "search";
  field.className = "filter";
  field.placeholder = "filter rows";
  field.setAttribute("aria-label", "filter rows of the table below");
  field.addEventListener("input", () => filter(table, field.value));
  table.before(field);
}
