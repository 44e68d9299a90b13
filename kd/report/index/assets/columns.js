// The columns of the table: how each value is read, written and sorted.
(() => {
  const percent = (name, title, more = {}) => ({
    id: name, title, first: "descending", get: (run) => run[name],
    text: (value) => kd.number(100 * value, 2), compared: (value) => 100 * value, ...more });
  const number = (name, title, more = {}) => ({
    id: name, title, first: "ascending", get: (run) => run[name], text: kd.significant, ...more });
  const words = (name, title, more = {}) => ({
    id: name, title, left: true, first: "ascending", get: (run) => run[name] ?? null, text: String, ...more });
  const points = (value) => (value > 0 ? "+" : "") + kd.number(100 * value, 2);
  const timed = (value, run) => kd.significant(value) + (run.busy ? "*" : "");

  // settings that a command sets, without those that all commands set
  const commands = kd.runs.filter((run) => run.command);
  const counts = new Map();
  for (const run of commands) for (const each of run.overrides ?? []) counts.set(each, (counts.get(each) ?? 0) + 1);
  kd.common = commands.length > 1 ? [...counts].filter(([, count]) => count === commands.length).map(([each]) => each) : [];
  const common = new Set(kd.common);
  for (const run of kd.runs) run.own = (run.overrides ?? []).filter((each) => !common.has(each)).join(" ");
  kd.settings = (run) => run.own;

  kd.columns = [
    words("state", "state", { select: true }),
    words("method", "method", { select: true }),
    words("settings", "settings", { get: (run) => kd.settings(run) || null, wide: true }),
    words("data", "data", { select: true }),
    words("teacher", "teacher", { select: true }),
    words("student", "student", { select: true }),
    number("seed", "seed", { text: String }),
    percent("accuracy", "accuracy (%)"),
    percent("baseline", "baseline (%)"),
    percent("gain", "gain (points)", { text: points }),
    percent("ece", "ECE (%)", { first: "ascending" }),
    number("size", "size (MB)"),
    number("latency", "latency (ms)", { text: timed }),
    number("minutes", "minutes"),
    number("when", "when", { first: "descending", text: kd.day }),
    percent("teacher_accuracy", "teacher accuracy (%)", { hidden: true }),
    percent("val_accuracy", "validation (%)", { hidden: true }),
    percent("balanced_accuracy", "balanced accuracy (%)", { hidden: true }),
    percent("macro_f1", "macro F1 (%)", { hidden: true }),
    percent("top5_accuracy", "top-5 (%)", { hidden: true }),
    number("nll", "NLL", { hidden: true }),
    percent("agreement", "agreement (%)", { hidden: true }),
    percent("recovered", "gain recovered (%)", { hidden: true }),
    number("mcnemar_p", "McNemar p", { hidden: true }),
    number("params", "parameters (M)", { hidden: true, get: (run) => (run.params === undefined ? undefined : run.params / 1e6) }),
    number("macs", "MACs (M)", { hidden: true, get: (run) => (run.macs === undefined ? undefined : run.macs / 1e6) }),
    number("latency_one_thread", "latency, one thread (ms)", { hidden: true, text: timed }),
    number("throughput", "images/s", { hidden: true, first: "descending", text: timed }),
    number("epochs", "epochs", { hidden: true, text: String }),
    words("device", "timed on", { hidden: true }),
    words("sweep", "sweep", { hidden: true, select: true, get: (run) => run.sweeps?.join(", ") || null, all: (run) => run.sweeps ?? [] }),
    words("id", "run", { hidden: true }),
  ];

  // every setting that differs between two runs may be a column, too
  const values = new Map();
  for (const run of kd.runs) {
    for (const [key, value] of Object.entries(run.settings)) {
      if (!values.has(key)) values.set(key, new Set());
      values.get(key).add(value);
    }
  }
  kd.varied = [...values].filter(([key, found]) => found.size > 1 && key !== "seed").map(([key]) => key).sort();
  for (const key of kd.varied) {
    kd.columns.push({ id: key, title: key, hidden: true, setting: true, first: "ascending", get: (run) => run.settings[key],
      text: String, left: [...values.get(key)].some((value) => typeof value === "string") });
  }
  kd.column = new Map(kd.columns.map((column) => [column.id, column]));

  kd.value = (run, column) => { const value = column.get(run); return value === undefined ? null : value; };
  kd.text = (run, column) => { const value = kd.value(run, column); return value === null ? "–" : column.text(value, run); };
  kd.title = (run) => run.title ??= [run.method, run.teacher && run.student ? `${run.teacher} → ${run.student}` : run.student, kd.settings(run),
    run.seed === undefined ? "" : `seed ${run.seed}`].filter(Boolean).join(", ") || run.id;
})();
