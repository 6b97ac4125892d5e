// What is to be seen at an address: all datasets, one of them, or a run.

function address(dataset, run) {
  return `#/${encodeURIComponent(dataset ?? "")}${run ? `/${encodeURIComponent(run)}` : ""}`;
}

function overview() {
  const rows = report.datasets.map((dataset) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: address(dataset.name) }, dataset.name)),
    h("td", { class: "right" }, String(dataset.runs)),
    h("td", {}, dataset.best?.model ?? ""),
    h("td", { class: "right" }, dataset.best?.nats?.toFixed(2) ?? "")));
  const head = h("tr", {}, h("th", { scope: "col" }, "dataset"), h("th", { scope: "col", class: "right" }, "runs"), h("th", { scope: "col" }, "best flow"), h("th", { scope: "col", class: "right" }, "its test nats"));
  return [
    h("h1", { tabindex: -1 }, `Results in ${report.folder}`),
    h("p", {}, "How good a density each flow learned, and what a density, a sample and the training cost. Choose a dataset."),
    region("Datasets", h("table", {}, h("thead", {}, head), h("tbody", {}, rows))),
    ofTheFolder(),
  ];
}

// What is of no dataset: costs by the number of columns, and what could not be read.
function ofTheFolder() {
  return [
    report.scaling ? [h("h2", {}, "How costs grow"), picture(report.scaling)] : [],
    report.problems.length ? [h("h2", {}, "Not shown"), notes(report.problems)] : [],
  ].flat();
}

const SECTIONS = [
  ["frontier", "Which flow to pick"], ["curves", "Training"], ["pairs", "Which differences are real"], ["history", "Has it got worse?"],
];

// For each cost the flows that are worth it, from the cheapest to the best.
function picks(dataset) {
  const { costs } = dataset.words;
  if (!costs.length) return [];
  const flow = ([name, cost, nats]) => h("span", { class: "pick" }, `${name} `, h("span", { class: "quiet" }, `${cost} · ${nats}`));
  const row = ({ cost, machine, flows }) => h("tr", {}, h("th", { scope: "row" }, cost), h("td", {}, machine), h("td", { class: "long" }, flows.flatMap((each, k) => [k ? " → " : "", flow(each)])));
  const head = ["cost", "on", "worth it, from the cheapest to the best"].map((text) => h("th", { scope: "col" }, text));
  return [region("Which flow to pick", h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, costs.map(row))))];
}

function datasetView(dataset) {
  const sections = SECTIONS.map(([kind, title]) => {
    const found = dataset.pictures[kind];
    if (!found) return [];
    return [h("h2", {}, title), kind === "frontier" ? picks(dataset) : [], picture(found)];
  });
  return [
    h("h1", { tabindex: -1 }, dataset.name),
    h("p", { class: "quiet" }, dataset.heading),
    h("p", {}, dataset.words.best),
    sections.slice(0, 1),
    h("h2", {}, "Comparison"),
    comparison(dataset),
    notes(dataset.notes),
    sections.slice(1),
    report.datasets.length === 1 ? ofTheFolder() : [],
  ];
}

function terms(pairs) {
  return h("dl", {}, pairs.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

const IMAGES = [["rows", "test rows"], ["samples", "samples of the flow"], ["most_likely", "most likely test rows"], ["least_likely", "least likely test rows"]];

function runView(dataset, name, run) {
  const curves = dataset.pictures.curves;
  const own = curves && { ...curves, title: "Its training", groups: curves.groups.filter((group) => group.same.run === name) };
  const verdict = (passed) => h("td", { class: passed ? "good pass" : "bad fail" }, passed ? "passed" : "failed");
  return [
    h("p", { class: "quiet" }, h("a", { href: address(dataset.name) }, `← ${dataset.name}`)),
    h("h1", { tabindex: -1 }, run.title),
    h("p", { class: "quiet" }, name),
    run.status === "ok" ? null : h("p", { class: "bad fail" }, `${run.status}: ${run.error ?? "no reason was recorded"}`),
    run.doubts.map((doubt) => h("p", {}, `Doubt: ${doubt}`)),
    terms(run.figures.map(([what, value, unit]) => [what, `${value} ${unit}`])),
    sketchView(dataset, run),
    own?.groups.length ? [h("h2", {}, "Training"), picture(own)] : null,
    run.checks.length ? h("h2", {}, "Checks") : null,
    run.checks.length ? region("Checks", h("table", {},
      h("thead", {}, h("tr", {}, ["check", "value", "limit", ""].map((text) => h("th", { scope: "col" }, text || h("span", {}, "verdict"))))),
      h("tbody", {}, run.checks.map(([what, value, limit, passed]) => h("tr", {}, h("td", { class: "long" }, what), h("td", {}, shown(value)), h("td", {}, shown(limit)), verdict(passed)))))) : null,
    Object.keys(run.kinds).length ? [h("h2", {}, "Kinds of columns"), terms(Object.entries(run.kinds))] : null,
    h("h2", {}, "Settings"), terms(Object.entries(report.pool[run.settings])),
    h("h2", {}, "Environment"), terms(Object.entries(report.pool[run.environment])),
  ].flat();
}

// Runs on the same data that have pictures.
function others(dataset) {
  const found = dataset.table.rows.flatMap((row) => row.runs).filter((name) => report.runs[name].sketch);
  return found.length ? h("p", { class: "quiet" }, "There are of: ", found.slice(0, 8).flatMap((name, k) => [k ? ", " : "", h("a", { href: address(dataset.name, name) }, report.runs[name].title)])) : null;
}

function sketchView(dataset, run) {
  const sketch = run.sketch;
  if (!sketch) return [h("h2", {}, "What it learned"), h("p", { class: "quiet" }, `There are no pictures of this flow: ${run.unsketched}.`), others(dataset)];
  return [
    h("h2", {}, "What it learned"),
    sketch.images ? h("div", { class: "images" }, IMAGES.map(([part, title]) => {
      const found = sketch.images[part];
      return h("figure", {}, h("h3", {}, title), h("img", { src: `data:image/png;base64,${report.pool[found.png]}`, alt: `${found.count} ${title} as pictures of ${found.side} × ${found.side} pixels` }));
    })) : null,
    sketch.pictures.map((found) => picture(found)),
    sketch.uncalibrated ? h("p", { class: "quiet" }, `No calibration: ${sketch.uncalibrated}`) : null,
    extremes("Least likely test rows", sketch.least_likely, report.pool[sketch.columns]),
    extremes("Most likely test rows", sketch.most_likely, report.pool[sketch.columns]),
  ].flat();
}

function extremes(title, rows, columns) {
  if (!rows.length) return [];
  const names = ["row", "nats", ...columns];
  return [h("details", {}, h("summary", {}, title),
    region(title, h("table", {},
      h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", class: "right" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, [row.row, row.nats, ...row.values].map((value) => h("td", { class: "right" }, shown(value)))))))))];
}
