// The elements of an answer. All text is set as text, so a class may have any name.

import { softmax } from "./network.js";
import { draw } from "./preprocess.js";

const ALL = 8; // up to so many classes are shown at once; of more, the first SOME, and the rest on request
const SOME = 5;
const LONG = 18; // characters of a name that stands above its bar, and not beside it
const CLOSE = 0.0001; // probabilities of different runtimes differ by rounding, which is less
const ROLES = { teacher: "teacher", baseline: "baseline (labels only)" };

// Make an element: properties, and children that are elements or text.
export function make(tag, properties = {}, ...children) {
  const { data, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others);
  Object.entries(data ?? {}).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
}

export const percent = (p) => (p > 0 && p < 0.0005 ? "<\u00a00.1\u00a0%" : `${(100 * p).toFixed(1)}\u00a0%`);
export const milliseconds = (ms) => `${ms < 1 ? ms.toFixed(2) : ms < 10 ? ms.toFixed(1) : Math.round(ms)}\u00a0ms`;
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const className = (name) => make("bdi", { textContent: name }); // a name in Arabic does not turn the line around

// The positions of the classes, the most probable first.
export const ranked = (probabilities) => probabilities.map((_, k) => k)
  .sort((a, b) => probabilities[b] - probabilities[a] || a - b);

function bar(name, probability) {
  const fill = make("span", { className: "fill" });
  fill.style.width = `${100 * probability}%`;
  return make("li", {}, make("span", { className: "name" }, className(name)),
    make("span", { className: "track", data: { "aria-hidden": "true" } }, fill),
    make("span", { className: "percent", textContent: percent(probability) }));
}

function bars(order, probabilities, classes) {
  const long = order.some((k) => classes[k].length > LONG) ? " long" : "";
  return make("ol", { className: `bars${long}` }, ...order.map((k) => bar(classes[k], probabilities[k])));
}

function rest(order, probabilities, classes) {
  const details = make("details", {}, make("summary", { textContent: `All ${count(order.length, "class", "classes")}` }));
  details.addEventListener("toggle", () => {
    const scroll = make("div", { className: "all", tabIndex: 0, data: { role: "region", "aria-label": "all classes" } });
    scroll.append(bars(order, probabilities, classes));
    details.append(scroll);
  }, { once: true });
  return details;
}

// What teacher and baseline said in the run, beside the student's answer here.
function comparison(probabilities, example, classes) {
  const row = (who, answers) => {
    const [best] = ranked(answers);
    const right = best === example.label;
    return make("tr", {}, make("th", { scope: "row", textContent: who }), make("td", {}, className(classes[best])),
      make("td", { className: "number", textContent: percent(answers[best]) }),
      make("td", { className: right ? "right" : "wrong", textContent: right ? "✓ right" : "✕ wrong" }));
  };
  const others = Object.keys(ROLES).filter((role) => example.recorded[role])
    .map((role) => row(ROLES[role], softmax(example.recorded[role])));
  const head = ["network", "answer", "probability", "verdict"]
    .map((text) => make("th", { scope: "col", textContent: text, className: text === "probability" ? "number" : "" }));
  const table = make("table", {}, make("caption", {}, "The picture’s label is ", className(classes[example.label]), "."),
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, row("student, in this browser", probabilities), ...others));
  const parts = [make("div", { className: "scroll" }, table)];
  if (example.recorded.student) {
    const recorded = softmax(example.recorded.student);
    const apart = Math.max(...recorded.map((p, k) => Math.abs(p - probabilities[k])));
    const same = ranked(recorded)[0] === ranked(probabilities)[0] ? "the same answer" : "another answer";
    const text = `The run recorded ${same} of the student; the probabilities differ by `
      + `${apart < CLOSE ? `less than ${CLOSE}` : `up to ${apart.toFixed(4)}`}.`;
    parts.push(make("p", { className: "quiet", textContent: text }));
  }
  return parts;
}

// An answer as an article. given: { title, input, probabilities, network (ms), reading (ms), example, note }
export function card(given, page) {
  const { title, input, probabilities, example } = given;
  const order = ranked(probabilities);
  const few = order.length <= ALL;
  const size = page.image_size;
  const canvas = make("canvas", { data: { role: "img", "aria-label": `${title} as the network sees it` } });
  draw(canvas, input, size);
  const times = `${milliseconds(given.network)} in the network, ${milliseconds(given.reading)} to read and resize`;
  return make("article", { className: "card" },
    make("figure", {}, canvas, make("figcaption", { textContent: `what the network sees: ${size}\u00a0×\u00a0${size}\u00a0pixels` })),
    make("div", { className: "answer" },
      make("h3", { textContent: title }),
      make("p", { className: "best" }, className(page.classes[order[0]]), " ",
        make("span", { textContent: percent(probabilities[order[0]]) })),
      bars(few ? order : order.slice(0, SOME), probabilities, page.classes),
      ...(few ? [] : [rest(order, probabilities, page.classes)]),
      make("p", { className: "quiet times", textContent: times }),
      ...(given.note ? [make("p", { className: "notice", textContent: given.note })] : []),
      ...(example ? comparison(probabilities, example, page.classes) : [])));
}

export const failure = (text) => make("article", { className: "card notice failure" }, make("p", { textContent: text }));
