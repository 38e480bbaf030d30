// Figures: improvement over the data against its quality, one panel for each method and task.

function ticks([low, high]) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const step = power * [1, 2, 5, 10].find((factor) => (high - low) / (power * factor) <= 5);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => [(first + i) * step, fixed((first + i) * step, digits)]);
}

const improvement = (result) => mean(result.qualities) - result.quality;
const resultsOn = (entry, task) =>
  entry.results.filter((result) => result.task === task).sort((a, b) => a.quality - b.quality);

const WIDTH = 400, HEIGHT = 262, LEFT = 40, RIGHT = 390, TOP = 26, BOTTOM = 224;

function frameOf(limits) {
  const [[x0, x1], [y0, y1]] = [limits.x, limits.y];
  return {
    x: (quality) => LEFT + ((RIGHT - LEFT) * (quality - x0)) / (x1 - x0),
    y: (value) => BOTTOM - ((BOTTOM - TOP) * (value - y0)) / (y1 - y0),
    lowest: y0,
  };
}

function curve(name, results, { x, y }, inside) {
  const offsets = results.length === 1 ? [-7, 7] : [0];  // a single dataset becomes a dash
  const points = results.flatMap((result) =>
    offsets.map((offset) => `${(x(result.quality) + offset).toFixed(1)},${y(improvement(result)).toFixed(1)}`),
  );
  return svg("polyline", { ...inside, class: name, points: points.join(" ") });
}

function seedDot(result, quality, seed, { x, y, lowest }) {
  const diverged = result.diverged.includes(seed), value = quality - result.quality;
  const name = diverged ? "dead" : result.bc_converged ? "seed" : "hollow";
  const title = `${result.id}, seed ${seed}${diverged ? ", diverged" : ""}: data ${fixed(result.quality, 2)}, `;
  return svg(
    "circle",
    { class: name, cx: x(result.quality), cy: y(Math.max(lowest, value)), r: 3 },
    svg("title", {}, `${title}improvement ${signed(value, 3)}`),
  );
}

function panel(task, entry, references, limits) {
  const frame = frameOf(limits), { x, y } = frame, [x0, x1] = limits.x;
  const text = (attributes, content) => svg("text", { "text-anchor": "middle", ...attributes }, content);
  const across = (name, value) => svg("line", { class: name, x1: LEFT, x2: RIGHT, y1: y(value), y2: y(value) });
  const clip = `clip-${entry.id}-${task}`, inside = { "clip-path": `url(#${clip})` };
  const results = resultsOn(entry, task), total = entry.per_task[task];
  const beyondExpert = [[x0, 1 - x0], [x1, 1 - x1], [x1, 9], [x0, 9]].map(([a, b]) => `${x(a)},${y(b)}`);
  const hatch = { id: `hatch-${clip}`, width: 7, height: 7, patternUnits: "userSpaceOnUse" };
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Improvement of ${entry.name} on ${task}` },
    svg(
      "defs",
      {},
      svg("clipPath", { id: clip }, svg("rect", { x: LEFT, y: TOP, width: RIGHT - LEFT, height: BOTTOM - TOP })),
      svg(
        "pattern",
        { ...hatch, patternTransform: "rotate(45)" },
        svg("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 7 }),
      ),
    ),
    text({ class: "title", x: LEFT, y: 15, "text-anchor": "start" }, task),
    text({ x: RIGHT, y: 15, "text-anchor": "end" }, `score ${score(total.mean)}, ${range(total)}`),
    ticks(limits.y).map(([value, label]) => [
      across("grid", value),
      text({ x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, label),
    ]),
    ticks(limits.x).map(([value, label]) => text({ x: x(value), y: BOTTOM + 16 }, label)),
    text({ x: (LEFT + RIGHT) / 2, y: HEIGHT - 5 }, "quality of the data"),
    svg("polygon", { ...inside, fill: `url(#${hatch.id})`, points: beyondExpert.join(" ") }),
    svg("polyline", { ...inside, class: "envelope", points: beyondExpert.slice(0, 2).join(" ") }),
    across("zero", 0),
    references.map(([name, other]) => curve(`reference ${name}`, resultsOn(other, task), frame, inside)),
    curve("line", results, frame, inside),
    results.flatMap((result) => result.qualities.map((value, i) => seedDot(result, value, result.seeds[i], frame))),
    results.map((result) => {
      const name = result.bc_converged ? "dot" : "hollow";
      return svg("circle", { ...inside, class: name, cx: x(result.quality), cy: y(improvement(result)), r: 2.2 });
    }),
  );
}

function limitsOf(entries, references) {
  const results = entries.flatMap((entry) => entry.results), qualities = results.map((result) => result.quality);
  const finished = (result) => result.qualities.filter((_, i) => !result.diverged.includes(result.seeds[i]));
  const values = results.flatMap((result) => finished(result).map((value) => value - result.quality));
  values.push(...results.map(improvement), ...references.flatMap(([, other]) => other.results.map(improvement)));
  const low = Math.min(-0.05, ...values), high = Math.max(0.25, ...values), pad = 0.06 * (high - low);
  return {
    x: [Math.min(0, ...qualities) - 0.03, Math.max(1, ...qualities) + 0.03],
    y: [low - pad, high + pad],
  };
}

function lineKey(name, text) {
  const line = svg("line", { class: name, x1: 1, x2: 31, y1: 6, y2: 6 });
  return el("span", {}, svg("svg", { class: "key", viewBox: "0 0 32 11", "aria-hidden": "true" }, line), text);
}

function figures(entries, board) {
  const single = entries.length === 1 ? entries[0] : null;
  const otherThan = (entry) => ([, other]) => other && other !== entry;
  const references = ["bc", "awr"]
    .map((name) => [name, board.entries.find((entry) => entry.id === `${board.name}-${name}`)])
    .filter(otherThan(single));
  const limits = limitsOf(entries, references);
  const drawn = (task, entry) =>
    el(
      "figure",
      {},
      single ? null : el("figcaption", {}, el("a", { href: `#/method/${entry.id}` }, entry.name)),
      panel(task, entry, references.filter(otherThan(entry)), limits),
    );
  const sentences = [
    "Improvement is the quality of a policy minus that of its data; 0 is random and 1 is the expert.",
    "Each dot is a seed, and the line is the mean over seeds. The hatched region lies beyond the expert.",
  ];
  if (entries.some((entry) => entry.diverged))
    sentences.push("A ring is a seed that diverged; it counts as a random policy.");
  if (!entries.every((entry) => entry.results.every((result) => result.bc_converged)))
    sentences.push("Marks are hollow where BC has not converged or was not run; comparisons there are not interpreted.");
  return [
    el("h2", {}, "Improvement over the data"),
    note(sentences.join(" ")),
    note(
      lineKey("line", single ? single.name : "the method"),
      ...references.map(([name, other]) => lineKey(`reference ${name}`, other.name)),
    ),
    el(
      "div",
      { class: single ? "figures large" : "figures" },
      board.tasks.flatMap((task) => entries.map((entry) => drawn(task, entry))),
    ),
  ];
}
