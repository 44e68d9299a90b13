// The table of runs: a part of it is in the page at first, the rest follows as the reader scrolls.
(() => {
  const PART = 150; // rows
  const { make } = kd;
  const body = kd.id("rows"), more = kd.id("more"), box = kd.id("runs-box");
  let found = [], placed = 0;

  const stateClass = (name) => `status ${name.replace(" ", "-")}`;
  const cellOf = (run, column) => {
    if (column.id === "state") {
      const note = run.message || (run.state === "finished" ? "" : run.progress);
      return make("td", { class: "left words state-cell", title: note || null }, make("span", { class: stateClass(run.state) }, run.state),
        note ? make("span", { class: "message" }, ` ${note}`) : null);
    }
    const text = kd.text(run, column);
    const long = column.left && text.length > 24;
    const title = long ? text : column.id.startsWith("latency") ? `${run.device ?? ""}${run.busy ? "; * timed while other programs used the machine" : ""}` : null;
    return make("td", { class: [column.left ? "left" : "", long ? "words" : ""].filter(Boolean).join(" ") || null, title }, text);
  };
  const link = (run, file, words) => make("a", { href: `${run.link}/${file}` }, words);
  const rowOf = (run, columns) => {
    const choose = make("input", { type: "checkbox", "aria-label": `curves of ${kd.title(run)}`, disabled: !Object.keys(run.curves).length });
    choose.checked = kd.state.chosen.includes(run.id);
    choose.addEventListener("change", () => kd.choose(run.id, choose.checked));
    const isOpen = kd.state.open.includes(run.id);
    const open = make("button", { type: "button", class: "open", "aria-expanded": String(isOpen), "aria-label": `details of ${kd.title(run)}`,
      onclick: () => kd.toggle(run.id) }, isOpen ? "▾" : "▸");
    const last = make("td", { class: "left" });
    const take = make("div", { class: "take" });
    if (run.report) take.append(link(run, "report.md", "report"));
    if (run.command) take.append(kd.copyButton(kd.command(run), "copy command"));
    last.append(take);
    const row = make("tr", { "data-id": run.id, class: kd.state.chosen.includes(run.id) ? "chosen" : null },
      make("td", { class: "pick" }, choose, open), ...columns.map((column) => cellOf(run, column)), last);
    return row;
  };
  const facts = (rows) => make("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const detailsOf = (run, width) => {
    const own = Object.entries(run.settings).filter(([key]) => kd.varied.includes(key));
    const rows = [["run", run.id]];
    if (run.message) rows.push([run.state, run.message]);
    if (run.progress && run.state !== "finished") rows.push(["got to", run.progress]);
    if (run.sweeps?.length) rows.push([run.sweeps.length > 1 ? "sweeps" : "sweep", run.sweeps.join(", ")]);
    for (const column of kd.columns) {
      if (column.hidden && !column.setting && !["id", "sweep"].includes(column.id) && kd.value(run, column) !== null) rows.push([column.title, kd.text(run, column)]);
    }
    if (own.length) rows.push(["settings that differ between runs", own.map(([key, value]) => `${key}=${value}`).join("  ")]);
    const links = make("p");
    if (run.report) links.append(link(run, "report.md", "report.md"), " · ");
    if (["finished", "damaged"].includes(run.state)) links.append(link(run, "result.json", "result.json"), " · ");
    if (run.link) links.append(make("a", { href: `${run.link}/` }, "folder"));
    const command = run.command ? make("div", { class: "command" }, make("pre", {}, make("code", {}, kd.command(run))), kd.copyButton(kd.command(run))) : null;
    return make("tr", { class: "details" }, make("td", { colspan: width }, make("div", { class: "inside" }, links, command, facts(rows))));
  };

  const shownColumns = () => kd.state.columns.map((id) => kd.column.get(id));
  const place = (upTo) => {
    const columns = shownColumns(), part = document.createDocumentFragment();
    for (const run of found.slice(placed, upTo)) {
      part.append(rowOf(run, columns));
      if (kd.state.open.includes(run.id)) part.append(detailsOf(run, columns.length + 2));
    }
    body.append(part);
    placed = Math.min(upTo, found.length);
    more.hidden = placed >= found.length;
    more.textContent = `show more: ${(found.length - placed).toLocaleString("en")} runs below`;
  };
  more.addEventListener("click", () => place(placed + PART));
  new IntersectionObserver((seen) => { if (seen[0].isIntersecting && !more.hidden) place(placed + PART); }, { root: box, rootMargin: "600px" }).observe(more);

  const heads = () => {
    const row = [make("th", { scope: "col", class: "pick", "aria-label": "choose and open" })];
    for (const column of shownColumns()) {
      const way = kd.state.sort === column.id ? "ascending" : kd.state.sort === `-${column.id}` ? "descending" : null;
      const button = make("button", { type: "button", "data-sort": column.id }, column.title);
      button.addEventListener("click", () => {
        const next = way === null ? column.first : way === "ascending" ? "descending" : "ascending";
        kd.state.sort = (next === "descending" ? "-" : "") + column.id;
        kd.update();
        kd.id("heads").querySelector(`[data-sort="${CSS.escape(column.id)}"]`)?.focus();
      });
      row.push(make("th", { scope: "col", class: column.left ? "left" : null, "aria-sort": way }, button));
    }
    row.push(make("th", { scope: "col", class: "left" }, "report and command"));
    kd.id("heads").replaceChildren(...row);
  };

  kd.showTable = (runs, keep = false) => {
    const upTo = keep ? Math.max(placed, PART) : PART;
    found = runs;
    placed = 0;
    heads();
    body.replaceChildren();
    place(upTo);
    if (!keep) box.scrollTop = 0;
    kd.id("count").textContent = runs.length === kd.runs.length ? kd.many(runs.length, "run") : `${runs.length.toLocaleString("en")} of ${kd.many(kd.runs.length, "run")}`;
  };
  kd.showRow = (id) => { // open a run's details where it is in the table, and bring it into sight
    const at = found.findIndex((run) => run.id === id);
    if (at < 0) return;
    if (!kd.state.open.includes(id)) kd.state.open.push(id);
    kd.update(true);
    if (at >= placed) place(at + 1);
    const row = body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
    row.scrollIntoView({ block: "center" });
    row.querySelector(".open").focus();
  };
  kd.toggle = (id) => {
    const { open } = kd.state, at = open.indexOf(id);
    if (at < 0) open.push(id); else open.splice(at, 1);
    kd.update(true);
    body.querySelector(`tr[data-id="${CSS.escape(id)}"] .open`)?.focus();
  };

  // --- keyboard: arrows go from row to row within a column of controls, x chooses ---
  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr[data-id]");
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      const rows = [...body.querySelectorAll("tr[data-id]")], next = rows[rows.indexOf(row) + step];
      const kind = event.target.matches("input") ? "input:enabled" : event.target.matches("[data-copy]") ? "[data-copy]" : event.target.matches("a") ? "a" : ".open";
      (next?.querySelector(kind) ?? next?.querySelector(".open"))?.focus();
      event.preventDefault();
    } else if (event.key === "x") {
      row.querySelector("input:enabled")?.click();
      event.preventDefault();
    }
  });
})();
