// What the user chose, kept in the address after "#", so that a reload and a link show the same.
(() => {
  const shown = kd.columns.filter((column) => !column.hidden).map((column) => column.id);
  const fresh = () => ({ q: "", sort: "", columns: [...shown], only: {}, chosen: [], open: [], images: "", device: "",
    colours: "method", measure: "val_accuracy", role: "student" });
  kd.defaults = fresh();
  kd.state = fresh();
  const LISTS = ["chosen", "open"], WORDS = ["q", "sort", "images", "device", "colours", "measure", "role"];

  kd.readState = () => {
    const given = new URLSearchParams(location.hash.slice(1)), state = fresh();
    for (const name of WORDS) if (given.has(name)) state[name] = given.get(name);
    for (const name of LISTS) state[name] = given.getAll(name).filter((id) => kd.byId.has(id));
    if (given.has("columns")) state.columns = given.get("columns").split(",").filter((id) => kd.column.has(id));
    for (const column of kd.columns) if (column.select && given.has(column.id)) state.only[column.id] = given.get(column.id);
    kd.state = state;
  };
  kd.writeState = () => {
    const { state, defaults } = kd, out = new URLSearchParams();
    for (const name of WORDS) if (state[name] && state[name] !== defaults[name]) out.set(name, state[name]);
    for (const [name, value] of Object.entries(state.only)) out.set(name, value);
    if (state.columns.join() !== defaults.columns.join()) out.set("columns", state.columns.join());
    for (const name of LISTS) for (const id of state[name]) out.append(name, id);
    const hash = out.toString();
    history.replaceState(history.state, "", hash ? `#${hash}` : location.pathname + location.search);
  };

  // --- search: words anywhere, or a column compared with a value: gain>0, method=dkd ---
  const OPERATORS = { "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b };
  const texts = new Map();
  const textOf = (run) => {
    if (!texts.has(run)) {
      const own = kd.columns.filter((column) => !column.setting).map((column) => kd.text(run, column));
      texts.set(run, [...own, run.command, run.message, ...(run.overrides ?? [])].join("\n").toLowerCase());
    }
    return texts.get(run);
  };
  const matcher = (word) => {
    const [, name, operator, wanted] = /^([\w.]+?)(<=|>=|<|>|=)(.+)$/.exec(word) ?? [];
    const column = name && kd.column.get(name);
    if (!column) return (run) => textOf(run).includes(word);
    if (operator === "=") {
      return (run) => kd.text(run, column).toLowerCase() === wanted || String(kd.value(run, column)).toLowerCase() === wanted
        || textOf(run).includes(`\n${word}\n`);
    }
    const bound = Number(wanted);
    if (Number.isNaN(bound)) return (run) => textOf(run).includes(word);
    return (run) => {
      const value = kd.value(run, column);
      return typeof value === "number" && OPERATORS[operator](column.compared ? column.compared(value) : value, bound);
    };
  };
  const order = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    return typeof b === "number" ? 1 : order.compare(a, b);
  };
  kd.order = compare;
  kd.valuesOf = (run, column) => (column.all ? column.all(run) : kd.value(run, column) === null ? [] : [kd.value(run, column)]);

  // the runs that fit, sorted; what has no value comes last in both directions, equals stay newest first
  kd.find = () => {
    const tests = kd.state.q.toLowerCase().split(/\s+/).filter(Boolean).map(matcher);
    for (const [id, wanted] of Object.entries(kd.state.only)) {
      const column = kd.column.get(id);
      tests.push((run) => kd.valuesOf(run, column).includes(wanted));
    }
    const found = kd.runs.filter((run) => tests.every((test) => test(run)));
    const column = kd.column.get(kd.state.sort.replace(/^-/, ""));
    if (!column) return found;
    const sign = kd.state.sort.startsWith("-") ? -1 : 1;
    const keyed = found.map((run) => ({ run, value: kd.value(run, column) }));
    keyed.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.run.place - b.run.place;
      return sign * compare(a.value, b.value) || a.run.place - b.run.place;
    });
    return keyed.map(({ run }) => run);
  };
})();
