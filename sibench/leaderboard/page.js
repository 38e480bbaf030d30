// The page: elements, numbers, and the page of a board.

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const view = { sort: "rank", descending: false, text: "", privilege: "", level: "" };

// --- elements; every string becomes a text node, never markup ---

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const note = (text, ...more) => el("p", { class: "caption small" }, text, ...more);
const between = (items) => items.flatMap((item, index) => (index ? [", ", item] : [item]));
const badge = (kind, title, text) => el("span", { class: `badge ${kind}`, title }, text);
const hash = (value) => (value ? el("span", { class: "hash", title: value }, value.slice(0, 12)) : "–");
const capital = (text) => text[0].toUpperCase() + text.slice(1);

function link(url, text) {
  if (!/^https:\/\//.test(url)) return el("span", {}, text);
  return el("a", { href: url, rel: "noopener noreferrer nofollow" }, text);
}

function terms(pairs) {
  return el("dl", { class: "list" }, pairs.map(([term, ...value]) => [el("dt", {}, term), el("dd", {}, value)]));
}

function facts(pairs, name = "facts") {
  const fact = ([term, ...value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value));
  return el("dl", { class: name }, pairs.map(fact));
}

function scrolled(label, content) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, content);
}

function table(label, heads, rows) {
  const head = heads.map((text, i) => el("th", { scope: "col", class: i ? null : "left" }, text));
  const cell = (content, i) =>
    i ? el("td", { class: "number" }, content) : el("th", { scope: "row", class: "left" }, content);
  const body = rows.map((cells) => el("tr", {}, cells.map(cell)));
  return scrolled(label, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

// --- numbers ---

const known = (value) => typeof value === "number";
const fixed = (value, digits) =>
  known(value) ? value.toFixed(digits).replace(/^-(0(?:\.0*)?)$/, "$1").replace("-", "−") : "–";
const signed = (value, digits) => fixed(value, digits).replace(/^\d/, "+$&");
const score = (value) => signed(value, 2);
const range = ({ low, high }) => (known(low) ? `${score(low)} to ${score(high)}` : "");
const percent = (value) => (known(value) ? `${fixed(100 * value, 0)} %` : "–");
const grouped = (value) => value.toLocaleString("en");
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function setting(value) {
  if (Array.isArray(value)) return value.map(setting).join(" × ");
  return Number.isInteger(value) ? grouped(value) : String(value);
}

// --- the table of a board ---

function columns(board) {
  const withInterval = (interval) => [score(interval.mean), el("span", { class: "ends" }, range(interval))];
  const tasks = board.tasks.map((task) => ({
    key: `task ${task}`,
    label: task,
    about: `Score on ${task}`,
    value: (entry) => entry.per_task[task].mean,
    show: (entry) => withInterval(entry.per_task[task]),
  }));
  const worst = {
    key: "worst",
    label: "Worst task",
    about: "The lowest score on a task",
    value: (entry) => entry.worst_task[1],
    show: (entry) => [score(entry.worst_task[1]), el("span", { class: "ends" }, entry.worst_task[0])],
  };
  return [
    { key: "rank", label: "#", about: "Rank", up: true, value: (entry) => entry.rank },
    { key: "name", label: "Method", up: true, value: (entry) => entry.name.toLowerCase() },
    {
      key: "score",
      label: "Score",
      about: "Share of the headroom turned into return",
      value: (entry) => entry.score.mean,
      show: (entry) => withInterval(entry.score),
    },
    ...(tasks.length > 1 ? [...tasks, worst] : []),
    {
      key: "harm",
      label: "Harm",
      about: "Share of datasets on which the method is significantly worse than the data",
      up: true,
      value: (entry) => entry.harm_rate,
      show: (entry) => percent(entry.harm_rate),
    },
    {
      key: "over_bc",
      label: "P(> BC)",
      about: "Probability that a seed of the method beats a seed of BC",
      value: (entry) => entry.over_bc,
      show: (entry) => fixed(entry.over_bc, 2),
    },
    { key: "seeds", label: "Seeds", value: (entry) => entry.score.seeds },
  ];
}

function axisOf(entries) {
  const ends = entries.flatMap((entry) => [entry.score.low, entry.score.high, entry.score.mean]).filter(known);
  const low = Math.floor(Math.min(0, ...ends) * 10) / 10;
  const high = Math.ceil(Math.max(0.1, ...ends) * 10) / 10;
  return { low, high, at: (value) => 6 + (138 * (value - low)) / (high - low) };
}

const barSize = { class: "bar", viewBox: "0 0 150 24", "aria-hidden": "true" };

function scale({ low, high, at }) {
  const anchor = (tick) => (tick === high ? "end" : tick === low && tick < 0 ? "start" : "middle");
  const tick = (value) => svg("text", { x: at(value), y: 20, "text-anchor": anchor(value) }, fixed(value, 1));
  const fits = (value) => value === 0 || Math.abs(at(value) - at(0)) > 28;  // otherwise it overlaps the zero
  return svg("svg", barSize, [...new Set([low, 0, high])].filter(fits).map(tick));
}

function bar(interval, { low, high, at }) {
  const line = (name, from, to) => svg("line", { class: name, x1: at(from), x2: at(to), y1: 12, y2: 12 });
  return svg(
    "svg",
    barSize,
    line("grid", low, high),
    svg("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: 24 }),
    known(interval.low) ? line("interval", interval.low, interval.high) : null,
    svg("circle", { class: "dot", cx: at(interval.mean), cy: 12, r: 4.5 }),
  );
}

function badges(entry) {
  const privilege = "Privilege: the method sees more than expert observations and background steps";
  return el("div", { class: "badges" }, [
    entry.level === "re-evaluated"
      ? badge("good", "Policies were replayed on held-back seeds", "✓ re-evaluated")
      : badge("", "The score was recomputed from the submitted raw returns", entry.level),
    entry.privileges.map((name) => badge("", privilege, `sees ${name}`)),
    entry.diverged ? badge("warn", "A diverged seed counts as a random policy", `${entry.diverged} diverged`) : null,
    entry.unconverged
      ? badge(
          "warn",
          "Comparisons on these datasets are not interpreted",
          `not converged on ${entry.unconverged} of ${entry.results.length}`,
        )
      : null,
  ]);
}

function row(entry, all, axis) {
  const cells = all.map(({ key, value, show }) => {
    if (key !== "name") return el("td", { class: "number" }, show ? show(entry) : value(entry));
    const name = el("a", { href: `#/method/${entry.id}` }, entry.name);
    return el("th", { scope: "row", class: "left" }, name, badges(entry));
  });
  cells.splice(3, 0, el("td", {}, bar(entry.score, axis)));
  return el("tr", {}, cells);
}

function matches(entry) {
  const text = [entry.name, entry.about, ...entry.privileges].join(" ").toLowerCase();
  if (!text.includes(view.text.trim().toLowerCase()) || (view.level && entry.level !== view.level)) return false;
  if (view.privilege === "none") return entry.privileges.length === 0;
  return !view.privilege || entry.privileges.includes(view.privilege);
}

function comparison(value) {
  return (a, b) => {
    const [first, second] = [value(a), value(b)];
    if (first === second) return 0;
    if (first === null || second === null) return first === null ? 1 : -1;
    return (first < second ? -1 : 1) * (view.descending ? -1 : 1);
  };
}

function controls(board, draw, count) {
  const change = (name) => (event) => {
    view[name] = event.target.value;
    draw();
  };
  const choice = (name, label, options) => {
    const option = ([value, text]) => el("option", { value, selected: view[name] === value }, text);
    return el("select", { "aria-label": label, change: change(name) }, options.map(option));
  };
  const privileges = [...new Set(board.entries.flatMap((entry) => entry.privileges))].sort();
  if (view.privilege !== "none" && !privileges.includes(view.privilege)) view.privilege = "";
  const seen = privileges.map((name) => [name, `Sees ${name}`]);
  const levels = data.levels.map((name) => [name, capital(name)]);
  const label = "Filter by name";
  return el(
    "div",
    { class: "controls" },
    el("input", { type: "search", placeholder: label, "aria-label": label, value: view.text, input: change("text") }),
    choice("privilege", "Privileges", [["", "All privileges"], ["none", "Without privileges"], ...seen]),
    choice("level", "Level", [["", "All levels"], ...levels]),
    count,
  );
}

function boardTable(board) {
  const all = columns(board), axis = axisOf(board.entries), heads = new Map();
  const body = el("tbody"), count = el("output", { "aria-live": "polite" });
  if (!all.some((column) => column.key === view.sort)) Object.assign(view, { sort: "rank", descending: false });

  function draw() {
    const { value } = all.find((column) => column.key === view.sort), total = board.entries.length;
    const entries = board.entries.filter(matches).sort(comparison(value));
    const none = el("tr", {}, el("td", { class: "empty", colspan: all.length + 1 }, "No method matches."));
    body.replaceChildren(...(entries.length ? entries.map((entry) => row(entry, all, axis)) : [none]));
    count.textContent = `${entries.length === total ? "" : `${entries.length} of `}${total} methods`;
    for (const [key, head] of heads)
      head.setAttribute("aria-sort", key !== view.sort ? "none" : view.descending ? "descending" : "ascending");
  }

  for (const { key, label, about, up } of all) {
    const click = () => {
      Object.assign(view, { sort: key, descending: view.sort === key ? !view.descending : !up });
      draw();
    };
    const button = el("button", { type: "button", title: about ?? null, click }, label);
    heads.set(key, el("th", { scope: "col", class: key === "name" ? "left" : null }, button));
  }
  const head = [...heads.values()];
  head.splice(3, 0, el("td", {}, scale(axis)));
  const top = controls(board, draw, count);
  draw();
  return [top, scrolled("Leaderboard", el("table", { class: "board" }, el("thead", {}, el("tr", {}, head)), body))];
}

const explanations = () => [
  ["Score", "The share of the headroom that the method turned into return, with a 95 % interval over seeds."],
  ["Rank (#)", "One more than the number of methods that are significantly better (Welch’s test, Holm’s correction)."],
  ["Harm", "The share of datasets on which the method is significantly worse than the data."],
  ["P(> BC)", "The probability that a seed of the method beats a seed of BC, averaged over datasets."],
  [
    "Convergence",
    "The policies behind the data are known. BC counts as converged on a dataset when its held-out negative " +
      `log-likelihood (NLL) is within ${data.max_gap} nats per action dimension of the behaviour policy’s and it loses ` +
      `less than ${data.max_loss} of the data’s quality. Otherwise comparisons on that dataset are not interpreted.`,
  ],
  ["Self-reported", "The score was recomputed from the submitted raw returns. Those could be invented."],
  [
    "Re-evaluated",
    "In addition, policies drawn at random were replayed on held-back seeds. " +
      "A badge is only as trustworthy as the maintainers who issue it.",
  ],
  ["Privileges", "What a method sees beyond expert observations and background steps, as its submitter declares."],
];

function datasets(board) {
  const rows = board.datasets.map((one) => [
    one.id,
    fixed(one.quality, 3),
    [one.return_mean, one.return_std].map((value) => fixed(value, Math.abs(one.return_mean) < 10 ? 2 : 0)).join(" ± "),
    grouped(one.num_episodes),
    one.engines.join(", "),
    hash(one.recipe_sha256),
    between(one.contents.map(hash)),
  ]);
  const ends = board.tasks.map((task) => {
    const { random, expert } = board.references[task], digits = expert.mean < 10 ? 2 : 0;
    return `${task}: random ${fixed(random.mean, digits)}, expert ${fixed(expert.mean, digits)}`;
  });
  return [
    el("h2", {}, "Datasets"),
    note(
      "Methods learn from these. Quality is the mean return of the data, scaled so that a random policy is 0 and the " +
        `expert is 1 (${ends.join("; ")}). The recipe is the hash of the policies and seeds that were played. The ` +
        "content is the hash of the resulting arrays, which can differ between machines.",
    ),
    table("Datasets", ["Dataset", "Quality", "Return", "Episodes", "Engine", "Recipe", "Content"], rows),
  ];
}

// --- pages ---

function boardPage(board) {
  const current = (name) => (name === board.name ? "page" : null);
  const tab = ({ name }) => el("a", { href: `#/suite/${name}`, "aria-current": current(name) }, name);
  return [
    el("h1", { tabindex: -1 }, "How much better than its data does an imitation learner get?"),
    el(
      "p",
      {},
      "The ",
      el("strong", {}, "score"),
      " is the share of the headroom between the data and the expert that a method turns into return, over the whole " +
        "range of data quality. At 0 the method is as good as its data, at +1 it is the expert from any data, and " +
        "below 0 it is worse than its data.",
    ),
    el("nav", { class: "tabs", "aria-label": "Suites" }, data.boards.map(tab)),
    el("p", {}, `${capital(board.about)}.`),
    facts(board.facts),
    boardTable(board),
    note("Click the name of a column to sort by it."),
    figures(board.entries, board),
    el("h2", {}, "How to read this page"),
    terms(explanations()),
    datasets(board),
  ];
}

function show() {
  const [, kind, name] = location.hash.split("/"), entries = data.boards.flatMap((board) => board.entries);
  const entry = kind === "method" ? entries.find((one) => one.id === name) : undefined;
  const selected = (board) => (entry ? board.entries.includes(entry) : board.name === name);
  const board = data.boards.find(selected) ?? data.boards[0];
  const path = [el("a", { href: "#/" }, "SIBench leaderboard")];
  if (entry) path.push(" › ", el("a", { href: `#/suite/${board.name}` }, board.name));
  const empty = [el("h1", { tabindex: -1 }, "No results yet"), el("p", {}, "Run a suite, then render the page again.")];
  const content = entry ? methodPage(entry, board) : board ? boardPage(board) : empty;
  document.title = [entry?.name, board?.name, "SIBench leaderboard"].filter(Boolean).join(" – ");
  document.getElementById("path").replaceChildren(...path);
  main.replaceChildren(...content.flat(2).filter(Boolean));
}

addEventListener("hashchange", () => {
  show();
  scrollTo(0, 0);
  main.querySelector("h1").focus({ preventScroll: true });
});
document.getElementById("footer").textContent =
  `Drawn by sibench ${data.version} from ${data.num} entries. This page needs no network and loads nothing.`;
show();
