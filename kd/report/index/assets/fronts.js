// Accuracy against parameters and against latency, with the Pareto front of the runs that the table shows.
(() => {
  const { make, draw } = kd;
  const images = kd.id("images"), device = kd.id("device"), colours = kd.id("colours");
  const groups = new Map(); // accuracies of different test images are never in one plot
  for (const run of kd.runs) {
    if (run.state !== "finished" || typeof run.accuracy !== "number" || !run.images) continue;
    const key = run.images.join("|");
    if (!groups.has(key)) groups.set(key, { key, about: run.images, count: 0 });
    groups.get(key).count += 1;
    run.group = key;
  }
  const ordered = [...groups.values()].sort((a, b) => b.count - a.count);
  for (const { key, about: [name, digest, size, count], count: runs } of ordered) {
    const words = `${name}, ${size} pixels, ${kd.many(count, "test image")}`;
    const alike = ordered.filter(({ about }) => about[0] === name && about[2] === size && about[3] === count).length > 1;
    images.append(new Option(`${words}${alike ? ` (${String(digest).slice(0, 6)})` : ""}: ${kd.many(runs, "run")}`, key));
  }
  const byCount = (values) => [...values.reduce((counts, value) => counts.set(value, (counts.get(value) ?? 0) + 1), new Map())].sort((a, b) => b[1] - a[1]).map(([value]) => value);
  for (const name of byCount(kd.runs.map((run) => run.device).filter(Boolean))) device.append(new Option(name, name));
  for (const name of ["method", "student", "teacher", ...kd.varied.slice(0, 60)]) colours.append(new Option(name, name));
  images.addEventListener("change", () => { kd.state.images = images.value; kd.update(true); });
  device.addEventListener("change", () => { kd.state.device = device.value; kd.update(true); });
  colours.addEventListener("change", () => { kd.state.colours = colours.value; kd.update(true); });
  const pick = (select, wanted) => {
    select.value = wanted;
    if (select.selectedIndex < 0) select.selectedIndex = 0;
    return select.value;
  };

  // no other run is as cheap and as accurate: cheapest first, accuracy rises
  kd.front = (points) => {
    const sorted = [...points].sort((a, b) => a.cost - b.cost || b.accuracy - a.accuracy);
    let best = -Infinity;
    return sorted.filter(({ accuracy }) => accuracy > best && (best = accuracy, true));
  };

  const tipOf = ({ run, cost, accuracy, unit }) => [kd.title(run), `accuracy ${kd.number(accuracy, 2)} %` +
    (typeof run.gain === "number" ? `, gain ${kd.text(run, kd.column.get("gain"))} points` : ""), `${kd.significant(cost)} ${unit}${unit === "ms" && run.busy ? " *" : ""}`].join("\n");
  const plot = (name, points, teachers, how, colourOf) => {
    const place = kd.id(`plot-${name}`), words = kd.id(`front-${name}`);
    if (!points.length) {
      words.textContent = "";
      return kd.nothing(place, "No finished run in the table has these numbers.");
    }
    const all = [...points, ...teachers].map(({ cost, accuracy }) => [cost, accuracy]);
    const { svg, sx, sy } = kd.axes(place, all, { ...how, y: "accuracy (%)", log: true });
    const front = kd.front(points), best = new Set(front);
    const path = front.map(({ cost, accuracy }, k) => (k ? `H${sx(cost)}V${sy(accuracy)}` : `M${sx(cost)} ${sy(accuracy)}`)).join("");
    svg.append(draw("path", { class: "front-line", d: path }));
    for (const { cost, accuracy, name: words } of teachers) {
      const square = draw("rect", { class: "point teacher", x: sx(cost) - 5, y: sy(accuracy) - 5, width: 10, height: 10 });
      square.addEventListener("pointerenter", (event) => kd.showTip(`teacher ${words}\naccuracy ${kd.number(accuracy, 2)} %\n${kd.significant(cost)} ${how.unit}`, event.clientX, event.clientY));
      square.addEventListener("pointerleave", kd.hideTip);
      svg.append(square);
    }
    const sorted = [...points].sort((a, b) => best.has(a) - best.has(b) || a.cost - b.cost);
    sorted.forEach((point, k) => {
      const text = tipOf(point);
      const dot = draw("circle", { class: best.has(point) ? "point best" : "point", cx: sx(point.cost), cy: sy(point.accuracy), r: best.has(point) ? 6 : 4.5,
        fill: colourOf(point.run), tabindex: k === sorted.length - 1 ? 0 : -1, role: "button", "aria-label": text, "data-run": point.run.id });
      svg.append(dot);
    });
    const runOf = new Map(points.map((point) => [point.run.id, point]));
    const show = (event, x, y) => {
      const point = event.target.dataset?.run && runOf.get(event.target.dataset.run);
      if (point) kd.showTip(tipOf(point), x, y);
    };
    svg.addEventListener("pointerover", (event) => show(event, event.clientX, event.clientY));
    svg.addEventListener("pointerout", kd.hideTip);
    svg.addEventListener("focusin", (event) => { const box = event.target.getBoundingClientRect(); show(event, box.right, box.bottom); });
    svg.addEventListener("focusout", kd.hideTip);
    svg.addEventListener("click", (event) => { if (event.target.dataset?.run) { kd.hideTip(); kd.showRow(event.target.dataset.run); } });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter") {
        event.preventDefault(); // else the button that gets the focus is pressed, too
        kd.hideTip();
        kd.showRow(event.target.dataset.run);
      }
      if (!step) return;
      const dots = [...svg.querySelectorAll("circle")].sort((a, b) => a.cx.baseVal.value - b.cx.baseVal.value);
      dots[dots.indexOf(event.target) + step]?.focus();
      event.preventDefault();
    });
    words.textContent = `On the front: ${front.map((point) => `${point.run.method} ${point.run.student} ${kd.number(point.accuracy, 2)} % at ${kd.significant(point.cost)} ${how.unit}`).slice(0, 8).join("; ")}${front.length > 8 ? "; …" : "."}`;
  };

  kd.showFronts = (found) => {
    const most = byCount(found.map((run) => run.group).filter(Boolean))[0] ?? ""; // unless the reader chose others
    const group = pick(images, kd.state.images || most), timed = pick(device, kd.state.device), by = pick(colours, kd.state.colours);
    const runs = found.filter((run) => run.group === group);
    const column = kd.column.get(by);
    const names = byCount(runs.map((run) => kd.text(run, column)));
    const colourOf = (run) => { const place = names.indexOf(kd.text(run, column)); return place < 8 ? kd.series(place) : "var(--quiet)"; };
    const pointsOf = (some, cost, scale, unit) => some.filter((run) => run[cost] > 0).map((run) => ({ run, cost: run[cost] * scale, accuracy: 100 * run.accuracy, unit }));
    const teachersOf = (some, cost, scale) => [...new Map(some.filter((run) => run[cost] > 0 && typeof run.teacher_accuracy === "number").map((run) => {
      const point = { name: run.teacher ?? "", cost: run[cost] * scale, accuracy: 100 * run.teacher_accuracy };
      return [`${point.name}|${cost === "teacher_latency" ? "" : point.cost}|${point.accuracy}`, point];
    })).values()];
    const local = runs.filter((run) => run.device === timed);
    plot("params", pointsOf(runs, "params", 1e-6, "M parameters"), teachersOf(runs, "teacher_params", 1e-6), { x: "parameters (M)", unit: "M parameters", label: "accuracy against parameters" }, colourOf);
    plot("latency", pointsOf(local, "latency", 1, "ms"), teachersOf(local, "teacher_latency", 1), { x: "latency, batch 1 (ms)", unit: "ms", label: "accuracy against latency" }, colourOf);
    const elsewhere = runs.length - local.length;
    kd.id("fronts-help").textContent = `${kd.many(runs.length, "finished run")} of the table with these test images; the dashed line is the Pareto front of the students, squares are their teachers. ` +
      `A click opens the run.${runs.some((run) => run.busy) ? " * timed while other programs used the machine." : ""}${elsewhere ? ` ${kd.many(elsewhere, "run")} timed on another machine ${elsewhere === 1 ? "is" : "are"} not in the right plot.` : ""}`;
    kd.id("fronts-legend").replaceChildren(...names.slice(0, 8).map((name, place) => make("span", {}, make("span", { class: "swatch", style: `background:${kd.series(place)}` }), name)),
      ...(names.length > 8 ? [make("span", {}, make("span", { class: "swatch", style: "background:var(--quiet)" }), `${names.length - 8} others`)] : []));
  };
})();
