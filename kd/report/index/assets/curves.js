// Curves of the chosen runs over one another: accuracy and loss by epoch, each term's share of the gradient.
(() => {
  const { make, draw } = kd;
  const measure = kd.id("measure"), role = kd.id("role"), place = kd.id("plot-curves");
  const MEASURES = { val_accuracy: ["validation accuracy (%)", 100], loss: ["training loss", 1], train_accuracy: ["training accuracy (%)", 100],
    share: ["share of the gradient (%)", 100], cosine: ["cosine with the labels' gradient", 1] };
  for (const [name, [title]] of Object.entries(MEASURES)) measure.append(new Option(title, name));
  measure.addEventListener("change", () => { kd.state.measure = measure.value; kd.update(true); });
  role.addEventListener("change", () => { kd.state.role = role.value; kd.update(true); });
  const choose = (ids) => { kd.state.chosen = ids; kd.update(true); };
  kd.choose = (id, wanted) => choose(wanted ? [...new Set([...kd.state.chosen, id])] : kd.state.chosen.filter((each) => each !== id));
  kd.id("choose-none").addEventListener("click", () => choose([]));
  kd.id("choose-shown").addEventListener("click", () => choose(kd.find().filter((run) => Object.keys(run.curves).length).slice(0, 8).map((run) => run.id)));

  // [{ points: [[x, y], ...], dash, name }] of a run; a gap where nothing was logged
  const linesOf = (run, name, scale) => {
    const curve = kd.curve(run, kd.state.role);
    if (!curve) return [];
    const pairs = (xs, ys) => xs.map((x, k) => [x, ys[k]]).filter(([x, y]) => typeof x === "number" && typeof y === "number").map(([x, y]) => [x, y * scale]);
    if (!["share", "cosine"].includes(name)) return curve[name] ? [{ points: pairs(curve.epoch, kd.unpack(curve[name])), name: "" }] : [];
    const { gradients } = curve;
    return Object.entries(gradients?.[name] ?? {}).map(([term, values]) => ({ points: pairs(gradients.progress, values), name: term }));
  };

  kd.showCurves = () => {
    measure.value = kd.state.measure in MEASURES ? kd.state.measure : "val_accuracy";
    role.value = ["student", "baseline", "teacher"].includes(kd.state.role) ? kd.state.role : "student";
    const [title, scale] = MEASURES[measure.value], isShare = ["share", "cosine"].includes(measure.value);
    const runs = kd.state.chosen.map((id) => kd.byId.get(id));
    const series = runs.map((run) => linesOf(run, measure.value, scale).filter(({ points }) => points.length));
    const terms = [...new Set(series.flat().map(({ name }) => name))].filter(Boolean);
    const help = kd.id("curves-help");
    help.textContent = !runs.length ? "Choose runs by the boxes in the table." : terms.length ? `Strokes: ${terms.map((term, k) => `${term} ${["———", "– – –", "· · ·", "– · –"][k % 4]}`).join(", ")}.` : "";
    const legend = runs.map((run, k) => make("li", {}, make("button", { type: "button", "aria-label": `leave out ${kd.title(run)}`, onclick: () => kd.choose(run.id, false) }, "✕"), " ",
      make("span", { class: "swatch", style: `background:${kd.series(k)}` }), kd.title(run), series[k].length ? "" : make("span", { class: "quiet" }, " (not logged)")));
    kd.id("curves-legend").replaceChildren(...legend);
    const points = series.flat().flatMap((line) => line.points);
    if (!points.length) return kd.nothing(place, runs.length ? "The chosen runs have logged no such numbers." : "");
    const { svg, sx, sy } = kd.axes(place, points, { x: isShare ? "share of the training that is done" : "epoch", y: title, label: title, whole: !isShare });
    const dots = [];
    series.forEach((lines, k) => lines.forEach(({ points: own, name }) => {
      const dash = name ? ["", "7 4", "2 4", "9 4 2 4"][terms.indexOf(name) % 4] : kd.dashes(k);
      svg.append(draw("path", { class: "line", "data-run": runs[k].id, stroke: kd.series(k), "stroke-dasharray": dash, d: own.map(([x, y], at) => `${at ? "L" : "M"}${sx(x).toFixed(1)} ${sy(y).toFixed(1)}`).join("") }));
      if (own.length === 1) svg.append(draw("circle", { cx: sx(own[0][0]), cy: sy(own[0][1]), r: 3, fill: kd.series(k) }));
      for (const [x, y] of own) dots.push({ x, y, px: sx(x), py: sy(y), run: runs[k], name });
    }));
    const mark = draw("circle", { r: 5, fill: "none", stroke: "currentColor", visibility: "hidden" });
    svg.append(mark);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), ratio = svg.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * ratio, y = (event.clientY - box.top) * ratio;
      const near = dots.reduce((best, dot) => { const far = (dot.px - x) ** 2 + (dot.py - y) ** 2; return far < best.far ? { dot, far } : best; }, { far: 60 ** 2 }).dot;
      mark.setAttribute("visibility", near ? "visible" : "hidden");
      if (!near) return kd.hideTip();
      mark.setAttribute("cx", near.px);
      mark.setAttribute("cy", near.py);
      kd.showTip(`${kd.title(near.run)}${near.name ? `\n${near.name}` : ""}\n${isShare ? `after ${kd.number(100 * near.x, 0)} % of the training` : `epoch ${near.x}`}: ${kd.significant(near.y)}`, event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", () => { kd.hideTip(); mark.setAttribute("visibility", "hidden"); });
  };
})();
