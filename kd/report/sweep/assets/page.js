// The page is complete without this script, which adds sorting, filters and copying.
"use strict";
(() => {
  // --- copying: some browsers close the clipboard to files; then a hidden text field is tried, then a selection ---
  const byField = (text) => {
    const field = document.createElement("textarea");
    field.value = text;
    field.style.cssText = "position:fixed;top:0;left:0;opacity:0";
    document.body.append(field);
    field.select();
    let copied = false;
    try { copied = document.execCommand("copy"); } catch { /* refused */ }
    field.remove();
    return copied;
  };
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return byField(text);
    }
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const source = button.parentElement.querySelector("code");
    const copied = await copy(source.textContent);
    if (!copied) getSelection().selectAllChildren(source);
    button.focus();
    button.textContent = copied ? "copied" : "press Ctrl+C";
    setTimeout(() => { button.textContent = "copy"; }, 1600);
  });

  // --- the table of all cells ---
  const table = document.querySelector("table.cells");
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const rows = [...body.rows];

  // Numbers sort by value, everything else as text; missing values come last in both directions.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const number = Number(text);
    return Number.isNaN(number) ? text : number;
  };
  const order = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return order.compare(a, b);
  };
  const sortBy = (column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row, place) => ({ row, place, value: valueOf(row, column) }));
    keyed.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
      return sign * compare(a.value, b.value) || a.place - b.place;
    });
    body.append(...keyed.map(({ row }) => row));
    heads.forEach((head, k) => {
      if (k === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
  };
  heads.forEach((head, column) => {
    if (head.dataset.fixed !== undefined) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    // The first click on a score sorts the best first, on a setting the smallest.
    const first = head.dataset.first ?? "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    button.addEventListener("click", () => sortBy(column, head.getAttribute("aria-sort") === first ? other : first));
  });

  const tools = document.getElementById("tools");
  const search = tools.querySelector("input");
  const counter = tools.querySelector("output");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const chosen = new Map(); // column -> wanted text
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = words.every((word) => texts.get(row).includes(word))
        && [...chosen].every(([column, wanted]) => row.cells[column].textContent.trim() === wanted);
      row.hidden = !fits;
      shown += fits;
    }
    counter.textContent = shown === rows.length ? `${shown} cells` : `${shown} of ${rows.length} cells`;
  };
  heads.forEach((head, column) => {
    if (head.dataset.select === undefined) return;
    const name = head.textContent.trim();
    const values = [...new Set(rows.map((row) => row.cells[column].textContent.trim()))].sort(order.compare);
    if (values.length < 2 || values.length > 100) return;
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
    select.addEventListener("change", () => {
      if (select.selectedIndex === 0) chosen.delete(column);
      else chosen.set(column, select.value);
      filter();
    });
    label.append(name, select);
    counter.before(label);
  });
  search.addEventListener("input", filter);
  tools.querySelector("button").addEventListener("click", () => {
    search.value = "";
    tools.querySelectorAll("select").forEach((select) => { select.selectedIndex = 0; });
    chosen.clear();
    filter();
  });
  filter();
})();
