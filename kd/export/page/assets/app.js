// The page: loads page.json and the network, takes pictures, and shows answers one after another.

import { FRESH, load, softmax } from "./network.js";
import { isDeep, preprocess } from "./preprocess.js";
import { card, count, failure, make, milliseconds, percent, ranked } from "./view.js";

const BUDGET = 400; // milliseconds that repeated runs, for the time of the network, may take for all pictures together
const MAX_16_BIT = 65535;
const at = (id) => document.getElementById(id);
const say = (text) => { at("status").textContent = text; };
at("from-file").remove(); // scripts run, so this is no file that was opened without a server

const FITS = { crop: "its central square", pad: "all of it, with black bars", squash: "all of it, squashed to a square" };
let page = null; // of page.json
let latest = 0; // number of the latest choice, which ends the answers to the one before
let asked = false; // whether the user has chosen anything
let before = Promise.resolve();
const network = open();
network.catch((error) => say(error.message));
takeFiles(); // at once: what is chosen before the network is there waits for it

// Read page.json and load the network. -> its function run
async function open() {
  say("The network is loading …");
  const began = performance.now();
  page = await fetch("page.json", FRESH).then((found) => found.json()).catch(() => {
    throw new Error("page.json cannot be read, so this folder is not whole: export the page again.");
  });
  describe();
  listExamples();
  const run = await load(page.model, page.image_size).catch((error) => {
    throw new Error(`The network cannot be loaded: ${error.message}`);
  });
  if (!asked) say(`Ready. The network loaded in ${((performance.now() - began) / 1000).toFixed(1)} s.`);
  return run;
}

function answer(sources, quietly = false) {
  const number = ++latest;
  asked ||= !quietly;
  if (!quietly) say(`Reading ${count(sources.length, "picture")} …`);
  before = before.then(() => network).then((run) => answerAll(run, sources, () => number !== latest, quietly))
    .catch((error) => say(error.message));
}

function describe() {
  const { classes, image_size: size } = page;
  if (page.data) document.title = `What is in the picture? – ${page.data}`;
  at("about").textContent = `This student ${page.data ? `was trained on ${page.data} and ` : ""}knows `
    + `${count(classes.length, "class", "classes")}. It runs in this browser: no picture leaves your machine.`;
  const facts = { run: page.name, data: page.data, classes: classes.length.toLocaleString("en"),
    input: `${size} × ${size} pixels; of a picture that is not square: ${FITS[page.fit]}`
      + (page.channels === 1 ? "; in grey" : ""),
    runtime: `${page.runtime}, WebAssembly, one thread` };
  Object.entries(facts).filter(([, value]) => value).forEach(([name, value]) => {
    at("facts").append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  });
}

// --- answers ---

// sources: [{ title, blob() -> Promise<Blob>, example? }]. ended: whether there is a newer choice.
async function answerAll(run, sources, ended, quietly) {
  if (ended()) return;
  const results = at("results");
  results.replaceChildren();
  const answers = [];
  let unread = "";
  for (const source of sources) {
    const found = await answerOne(run, source, BUDGET / Math.max(8, sources.length)).catch((error) => {
      unread = error.message;
      return null;
    });
    if (ended()) return;
    results.append(found ? card(found, page) : failure(unread));
    if (found) answers.push(found);
    await new Promise((resolve) => { setTimeout(resolve); }); // lets the browser draw
  }
  if (quietly) return;
  say(spoken(answers, sources.length - answers.length, unread));
  if (matchMedia("(max-width: 60rem)").matches) at("answers").scrollIntoView({ block: "start" });
}

async function answerOne(run, { title, blob, example }, budget) {
  const began = performance.now();
  let input, note;
  try {
    const file = await blob();
    if (page.white !== MAX_16_BIT && await isDeep(file)) {
      note = "This file has 16 bits a channel, of which the browser keeps the upper 8. The network was trained with "
        + `${page.white.toLocaleString("en")} as white, so it sees this picture darker than it would in kd.`;
    }
    input = await preprocess(file, page);
  } catch {
    throw new Error(`${title} is not a picture that this browser can read.`);
  }
  const reading = performance.now() - began;
  const { logits, milliseconds: network } = await run(input, budget)
    .catch((error) => { throw new Error(`The network has no answer for ${title}: ${error.message}`); });
  return { title, input, probabilities: softmax(logits), network, reading, example, note };
}

// The sentence of the status line, which screen readers speak.
function spoken(answers, failed, unread) {
  if (answers.length + failed === 1) {
    if (failed) return unread;
    const [{ title, probabilities, network }] = answers;
    const [best] = ranked(probabilities);
    return `${title}: ${page.classes[best]}, ${percent(probabilities[best])}, in ${milliseconds(network)}.`;
  }
  const times = answers.map(({ network }) => network).sort((a, b) => a - b);
  return `${count(answers.length, "picture")} answered`
    + (times.length ? `, ${milliseconds(times[times.length >> 1])} a picture (median)` : "")
    + (failed ? `. ${count(failed, "file is no picture", "files are no pictures")} that this browser can read.` : ".");
}

// --- pictures of the user ---

function takeFiles() {
  const take = (files) => {
    mark(null);
    if (!files.length) say("Nothing that could be read was dropped: drop files of pictures.");
    else answer([...files].map((file) => ({ title: file.name || "the pasted picture", blob: async () => file })));
  };
  const choose = at("files");
  choose.addEventListener("change", () => {
    if (choose.files.length) take(choose.files);
    choose.value = ""; // so that the same file can be chosen again
  });
  if (choose.files.length) choose.dispatchEvent(new Event("change")); // chosen before this script ran
  let depth = 0; // of elements that are entered and not yet left
  const drag = (change) => (event) => {
    event.preventDefault();
    depth = change === 0 ? 0 : depth + change;
    at("drop").classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", drag(1));
  addEventListener("dragleave", drag(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    drag(0)(event);
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files);
  });
}

// --- test pictures ---

function mark(chosen) {
  at("examples").querySelectorAll("button").forEach((button) => {
    button.setAttribute("aria-pressed", String(button === chosen));
  });
}

function listExamples() {
  const sources = page.examples.map((example, k) => ({ title: `Test picture ${k + 1}`, example,
    blob: () => fetch(example.image, FRESH).then((found) => found.blob()) }));
  if (!sources.length) return;
  at("take-example").hidden = false;
  sources.forEach((source) => {
    const label = page.classes[source.example.label];
    const image = make("img", { src: source.example.image, alt: `${source.title}, labelled ` });
    const button = make("button", { type: "button", data: { "aria-pressed": "false" } }, image,
      make("bdi", { textContent: label, title: label }));
    button.addEventListener("click", () => { mark(button); answer([source]); });
    at("examples").append(make("li", {}, button));
  });
  at("all-examples").addEventListener("click", () => { mark(null); answer(sources); });
  if (asked) return;
  mark(at("examples").querySelector("button"));
  answer([sources[0]], true);
}
