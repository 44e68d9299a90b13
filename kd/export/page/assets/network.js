// The student in onnxruntime-web: one thread of WebAssembly, which needs no special headers from the server.

import * as ort from "./ort.wasm.bundle.min.mjs";

const MOST_RUNS = 20;
// After a new export, files of before must not come from the cache: they would not fit the others.
export const FRESH = { cache: "no-cache" };

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

// Load a network for inputs [1, 3, size, size] and run it twice, because the first runs are slow.
// -> run(input, milliseconds) -> { logits, milliseconds }
export async function load(url, size) {
  const answer = await fetch(url, FRESH);
  if (!answer.ok) throw new Error(`${url} is missing (${answer.status})`);
  const session = await ort.InferenceSession.create(await answer.arrayBuffer(), { executionProviders: ["wasm"] });
  const [inputName] = session.inputNames;
  const [outputName] = session.outputNames;

  const once = async (input) => {
    const began = performance.now();
    const outputs = await session.run({ [inputName]: new ort.Tensor("float32", input, [1, 3, size, size]) });
    const milliseconds = performance.now() - began;
    return { logits: outputs[outputName].data, milliseconds };
  };

  // The clock of a browser is coarse, down to whole milliseconds. So a quick network is run several times, for at most
  // `budget` milliseconds, and the mean is told.
  const run = async (input, budget = 0) => {
    const first = await once(input);
    const more = Math.min(MOST_RUNS, Math.floor(budget / Math.max(first.milliseconds, 0.1)));
    if (more < 1) return first;
    const began = performance.now();
    for (let k = 0; k < more; k++) await once(input);
    return { logits: first.logits, milliseconds: (performance.now() - began) / more };
  };

  for (let k = 0; k < 2; k++) await once(new Float32Array(3 * size * size));
  return run;
}

// Logits -> probabilities, in double precision.
export function softmax(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
