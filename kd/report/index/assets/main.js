// Put the parts together: tools, sweeps, keys, the address, and opening the page again while runs are under way.
(() => {
  const { make } = kd;
  const search = kd.id("search"), selects = kd.id("selects"), list = kd.id("columns-list");
  kd.id("made").textContent = `As of ${kd.day(kd.about.made)}: ${kd.many(kd.runs.length, "run")}, ${kd.many(kd.sweeps.length, "sweep")}.`;
  kd.id("empty").hidden = kd.runs.length > 0;
  if (kd.common.length) kd.id("shared").textContent = `All commands have ${kd.common.join(" ")}.`;

  const STATES = ["finished", "under way", "interrupted", "failed", "refused", "damaged"];
  const showStates = () => {
    const buttons = STATES.map((name) => [name, kd.runs.filter((run) => run.state === name).length]).filter(([, count]) => count).map(([name, count]) => {
      const pressed = kd.state.only.state === name;
      return make("button", { type: "button", class: `status ${name.replace(" ", "-")}`, "aria-pressed": String(pressed), "data-state": name, onclick: () => {
        if (pressed) delete kd.state.only.state; else kd.state.only.state = name;
        kd.update();
        kd.id("states").querySelector(`[data-state="${name}"]`).focus();
      } }, `${count.toLocaleString("en")} ${name}`);
    });
    kd.id("states").replaceChildren(...buttons);
  };

  for (const column of kd.columns.filter((each) => each.select)) {
    const values = [...new Set(kd.runs.flatMap((run) => kd.valuesOf(run, column)))].sort(kd.order);
    if (values.length < 2) continue;
    const select = make("select", { "data-only": column.id }, new Option("all", ""), ...values.map((value) => new Option(value, value)));
    select.addEventListener("change", () => {
      if (select.selectedIndex === 0) delete kd.state.only[column.id]; else kd.state.only[column.id] = select.value;
      kd.update();
    });
    selects.append(make("label", {}, column.title, select));
  }
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { kd.state.q = search.value; kd.update(); }, kd.runs.length > 300 ? 120 : 0);
  });
  kd.id("clear").addEventListener("click", () => { kd.state.q = ""; kd.state.only = {}; kd.state.sort = ""; kd.update(); });

  for (const column of kd.columns) {
    const box = make("input", { type: "checkbox", value: column.id });
    box.addEventListener("change", () => {
      const wanted = new Set(kd.state.columns);
      if (box.checked) wanted.add(column.id); else wanted.delete(column.id);
      kd.state.columns = kd.columns.map((each) => each.id).filter((id) => wanted.has(id));
      kd.update(true);
    });
    list.append(make("label", {}, box, column.title));
  }
  kd.id("columns-default").addEventListener("click", () => { kd.state.columns = [...kd.defaults.columns]; kd.update(true); });

  const sweepRow = (sweep) => {
    const counts = sweep.counts ?? {}, ended = (counts.done ?? 0) + (counts.found ?? 0);
    const rest = ["running", "failed", "refused", "lost", "waiting"].filter((name) => counts[name]).map((name) => `${counts[name]} ${name}`);
    const cells = sweep.counts ? [`${ended} of ${sweep.total} finished`, ...rest].join(", ") : sweep.message;
    const name = make("button", { type: "button", "aria-label": `show the runs of ${sweep.name}`, onclick: () => {
      kd.state.only = { sweep: sweep.name };
      kd.update();
      kd.id("runs").scrollIntoView();
    } }, "its runs");
    return make("tr", {}, make("td", { class: "left" }, sweep.name, " ", name),
      make("td", { class: "left" }, make("span", { class: `status ${sweep.state.replace(" ", "-")}` }, sweep.state)),
      make("td", { class: "left words", title: cells }, cells), make("td", { class: "left words", title: (sweep.swept ?? []).join(", ") }, (sweep.swept ?? []).join(", ")),
      make("td", {}, sweep.when ? kd.day(sweep.when) : "–"),
      make("td", { class: "left" }, sweep.report ? make("a", { href: `${sweep.link}/report.html` }, "report") : "–"),
      make("td", { class: "left" }, sweep.command ? kd.copyButton(sweep.command, "copy command") : "–"));
  };
  kd.id("sweep-rows").append(...kd.sweeps.map(sweepRow));
  kd.id("sweeps").hidden = !kd.sweeps.length;

  const showTools = () => {
    if (search.value !== kd.state.q) search.value = kd.state.q;
    for (const select of selects.querySelectorAll("select")) select.value = kd.state.only[select.dataset.only] ?? "";
    for (const box of list.querySelectorAll("input")) box.checked = kd.state.columns.includes(box.value);
    showStates();
  };
  const drawn = {}; // what each plot was last drawn from: a drawing takes longer than the rest
  const redraw = (name, draw, ...from) => {
    const key = JSON.stringify([innerWidth, ...from]);
    if (drawn[name] !== key) draw();
    drawn[name] = key;
  };
  const showPlots = (found) => {
    const { q, only, images, device, colours, chosen, measure, role } = kd.state;
    redraw("fronts", () => kd.showFronts(found), q, only, images, device, colours);
    redraw("curves", kd.showCurves, chosen, measure, role);
  };
  kd.update = (keep = false) => { // keep: the same rows in the same order
    const found = kd.find();
    showTools();
    kd.showTable(found, keep);
    showPlots(found);
    kd.writeState();
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (event.key === "/" && !typing) { search.focus(); event.preventDefault(); }
    if (event.key === "Escape") { kd.id("chooser").open = false; kd.hideTip(); }
  });
  document.addEventListener("click", (event) => { if (!event.target.closest("#chooser")) kd.id("chooser").open = false; });
  addEventListener("hashchange", () => { kd.readState(); kd.update(); });
  addEventListener("resize", () => showPlots(kd.find()));

  kd.readState();
  kd.update();

  // --- while runs are under way the page opens itself again, unless the reader is about to do something ---
  const box = kd.id("runs-box");
  const back = history.state?.kd;
  if (back) {
    while (box.scrollHeight < back.box && !kd.id("more").hidden) kd.id("more").click();
    box.scrollTo(back.left, back.top);
    scrollTo(0, back.page);
    if (back.focus) kd.id(back.focus)?.focus({ preventScroll: true });
    history.replaceState(null, "");
  }
  if (kd.about.reload) {
    let touched = 0;
    for (const name of ["keydown", "pointerdown", "input", "wheel"]) addEventListener(name, () => { touched = Date.now(); }, { passive: true });
    kd.id("reloading").textContent = "It is refreshed while runs are under way.";
    setInterval(() => {
      const busy = Date.now() - touched < 3000 || kd.id("chooser").open || !getSelection().isCollapsed || document.activeElement?.matches("select");
      if (busy || document.hidden) return;
      const place = { box: box.scrollHeight, top: box.scrollTop, left: box.scrollLeft, page: scrollY, focus: document.activeElement?.id ?? "" };
      history.replaceState({ kd: place }, "");
      location.reload();
    }, 1000 * kd.about.reload);
  }
})();
