// Data, elements and copying. Everything from a run goes into the page as text, never as HTML.
"use strict";
const kd = {};
(() => {
  const parse = (id) => JSON.parse(document.getElementById(id).textContent);
  kd.about = parse("about");
  const data = parse("data");
  kd.runs = data.runs;
  kd.sweeps = data.sweeps;
  kd.shared = data.shared;
  kd.byId = new Map(kd.runs.map((run, place) => [run.id, Object.assign(run, { place })]));
  let curves = null;
  kd.curve = (run, role) => {
    const at = run.curves[role];
    if (at === undefined) return null;
    curves ??= parse("curve-data"); // large: read when the first curve is wanted
    const curve = curves[at];
    if (typeof curve.epoch === "number") curve.epoch = Array.from({ length: curve.epoch }, (_, k) => k + 1);
    return curve;
  };
  kd.unpack = ([low, high, text]) => { // as kd/report/index/curves.py packs it
    const bytes = atob(text), GAP = 0xffff;
    return Array.from({ length: bytes.length / 2 }, (_, k) => {
      const number = bytes.charCodeAt(2 * k) + 256 * bytes.charCodeAt(2 * k + 1);
      return number === GAP ? null : low + ((high - low) * number) / (GAP - 1);
    });
  };

  kd.id = (name) => document.getElementById(name);
  kd.make = (tag, given = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "onclick") node.addEventListener("click", value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  kd.draw = (tag, given = {}, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(given)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  kd.number = (value, digits) => value.toFixed(digits).replace("-", "−");
  kd.significant = (value) => { // three digits, thousands with commas
    if (value === 0) return "0";
    const text = value.toFixed(Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))));
    return text.replace("-", "−").replace(/\B(?=(\d{3})+$)/g, text.includes(".") ? "" : ",");
  };
  kd.day = (seconds) => {
    const date = new Date(seconds * 1000), two = (n) => String(n).padStart(2, "0");
    return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
  };
  kd.many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
  kd.series = (place) => `var(--c${place % 8})`;
  kd.dashes = (place) => ["", "7 3", "2 3", "9 3 2 3"][Math.floor(place / 8) % 4];

  // --- copying: some browsers close the clipboard to files; then a hidden text field is tried ---
  const byField = (text) => {
    const field = kd.make("textarea", { style: "position:fixed;top:0;left:0;opacity:0" });
    field.value = text;
    document.body.append(field);
    field.select();
    let copied = false;
    try { copied = document.execCommand("copy"); } catch { /* refused */ }
    field.remove();
    return copied;
  };
  kd.copyButton = (text, words = "copy") => {
    const button = kd.make("button", { type: "button", "data-copy": "", "aria-live": "polite", title: text }, words);
    button.addEventListener("click", async (event) => {
      event.stopPropagation();
      let copied = true;
      try { await navigator.clipboard.writeText(text); } catch { copied = byField(text); }
      const source = button.parentElement.querySelector("code"); // then you may copy it yourself
      if (!copied && source) getSelection().selectAllChildren(source);
      button.focus();
      button.textContent = copied ? "copied" : source ? "press Ctrl+C" : "not copied: see its details";
      setTimeout(() => { button.textContent = words; }, 1600);
    });
    return button;
  };
  kd.command = (run) => run.command && [run.command, kd.about.more].filter(Boolean).join(" ");

  // --- the box that follows the pointer ---
  const tip = kd.id("tip");
  kd.showTip = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 6))}px`;
    tip.style.top = `${y + 14 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 14}px`;
  };
  kd.hideTip = () => { tip.hidden = true; };
})();
