// Axes in SVG: a linear or logarithmic scale, a grid, ticks and titles.
(() => {
  const { draw } = kd;
  const niceStep = (span, count) => {
    const rough = span / count, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  };
  const linearTicks = (low, high, count) => {
    const step = niceStep(high - low, count), ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) ticks.push(k * step);
    return ticks;
  };
  const logTicks = (low, high) => {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const each of [1, 2, 5]) ticks.push(each * 10 ** power);
    }
    const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
    return inside.length > 8 ? inside.filter((tick) => Number.isInteger(Math.round(1e6 * Math.log10(tick)) / 1e6)) : inside;
  };
  const brief = (value) => {
    const size = Math.abs(value);
    if (size >= 1e9) return `${Number((value / 1e9).toPrecision(3))} G`;
    if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`;
    if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))} k`;
    return String(Number(value.toPrecision(4))).replace("-", "−");
  };

  // values: [[x, y], ...] that must be in sight; how: { label, x, y (titles), log }
  kd.axes = (place, values, how) => {
    const width = Math.max(280, Math.min(place.clientWidth || 600, 1100)), height = Math.round(Math.max(230, Math.min(400, width * 0.56)));
    const left = 52, right = 14, top = 10, bottom = 42;
    const xs = values.map(([x]) => x), ys = values.map(([, y]) => y);
    let [xLow, xHigh, yLow, yHigh] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    if (how.log) [xLow, xHigh] = [xLow / 1.25, xHigh * 1.25];
    else if (xLow === xHigh) [xLow, xHigh] = [xLow - 1, xHigh + 1];
    const air = (yHigh - yLow) * 0.06 || Math.abs(yHigh) * 0.05 || 1;
    [yLow, yHigh] = [yLow - air, yHigh + air];
    const scale = how.log ? Math.log10 : (value) => value;
    const sx = (x) => left + ((scale(x) - scale(xLow)) / (scale(xHigh) - scale(xLow))) * (width - left - right);
    const sy = (y) => height - bottom - ((y - yLow) / (yHigh - yLow)) * (height - top - bottom);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": how.label });
    for (const tick of linearTicks(yLow, yHigh, 5)) {
      svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: sy(tick), y2: sy(tick) }));
      svg.append(draw("text", { x: left - 7, y: sy(tick) + 4, "text-anchor": "end" }, brief(tick)));
    }
    const across = how.log ? logTicks(xLow, xHigh) : linearTicks(xLow, xHigh, Math.min(8, width / 70));
    for (const tick of across.filter((each) => !how.whole || Number.isInteger(each))) {
      svg.append(draw("line", { class: "grid", x1: sx(tick), x2: sx(tick), y1: top, y2: height - bottom }));
      svg.append(draw("text", { x: sx(tick), y: height - bottom + 17, "text-anchor": "middle" }, brief(tick)));
    }
    svg.append(draw("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, how.x));
    if (how.y) svg.append(draw("text", { transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, how.y));
    place.replaceChildren(svg);
    return { svg, sx, sy, width, height };
  };
  kd.nothing = (place, words) => place.replaceChildren(kd.make("p", { class: "quiet" }, words));
})();
