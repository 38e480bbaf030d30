// The page of a method.

function everyDataset(entry) {
  const heads = ["Dataset", "Data quality", "Policy quality", "Improvement", "95 % interval"];
  const rows = entry.results.map((result) => [
    result.id,
    fixed(result.quality, 3),
    fixed(mean(result.qualities), 3),
    score(result.improvement.mean),
    range(result.improvement),
    ...[result.nll, result.bc_nll, result.teacher_nll].map((value) => fixed(value, 2)),
    result.qualities.map((value) => fixed(value, 2)).join("  "),
  ]);
  return [
    el("h2", {}, "Every dataset"),
    table("Every dataset", [...heads, "NLL", "NLL of BC", "NLL of the data’s policy", "Each seed"], rows),
    note(
      "Quality is the mean return, scaled so that random is 0 and the expert is 1. NLL is that of the background’s " +
        "actions in held-out episodes, in nats per action.",
    ),
  ];
}

function verification({ checks, episodes, key }) {
  const rows = checks.map(({ subject, claimed, replayed, tolerance, p, min_p }) => [
    subject,
    ...[claimed, replayed, tolerance].map((value) => fixed(value, Math.abs(claimed) < 10 ? 3 : 1)),
    min_p ? fixed(p, 3) : "–",
  ]);
  const about = `Each policy was replayed for ${grouped(episodes)} episodes on seeds that nobody could know in advance.`;
  return [
    el("h2", {}, "Verification"),
    note(`${about} To repeat it: `, el("code", {}, `--key ${key}`)),
    table("Verification", ["Mean return of", "Claimed", "Replayed", "Tolerance", "Same distribution, p"], rows),
  ];
}

function provenance(entry, board) {
  const listed = (values, unit) => Object.entries(values).map(([name, value]) => `${name} ${unit(value)}`).join(", ");
  return [
    el("h2", {}, "Provenance"),
    terms([
      ["Submission", el("code", {}, entry.id)],
      ["Its sha256", el("code", {}, entry.sha256)],
      ["Suite", board.name, ", ", el("code", {}, board.sha256)],
      ["Code", ...between(entry.commits.map((commit) => el("code", {}, commit)))],
      ["Hardware", entry.hardware],
      ["Cost", listed(entry.hours, (hours) => `${fixed(hours, 2)} h`) || "not stated"],
      ["Versions", listed(entry.versions, String)],
    ]),
  ];
}

function methodPage(entry, board) {
  const links = ["paper", "code"].filter((name) => entry[name]).map((name) => link(entry[name], name));
  const numbers = [
    ["score", el("strong", {}, score(entry.score.mean))],
    ["95 % interval", range(entry.score)],
    ["95 % interval by bootstrap", range(entry.bootstrap)],
    ["rank", `${entry.rank} of ${board.entries.length}`],
    ["score on poor, medium, good data", entry.thirds.map(score).join(", ")],
    ["worst task", `${entry.worst_task[0]}, ${score(entry.worst_task[1])}`],
    ["harm", percent(entry.harm_rate)],
    ["probability of beating BC", fixed(entry.over_bc, 2)],
    ["seeds per dataset", entry.score.seeds],
    ["minimum detectable difference", fixed(entry.detectable, 2)],
  ];
  const settings = Object.entries(entry.config).map(([name, value]) => [name, setting(value)]);
  return [
    el("h1", { tabindex: -1 }, entry.name),
    entry.about ? el("p", {}, entry.about) : null,
    links.length ? el("p", { class: "small" }, between(links)) : null,
    badges(entry),
    el("h2", {}, "In numbers"),
    facts(numbers, "facts even"),
    figures([entry], board),
    everyDataset(entry),
    entry.verification ? verification(entry.verification) : null,
    provenance(entry, board),
    el("h2", {}, "Settings"),
    settings.length ? terms(settings) : note("None are stated."),
  ];
}
