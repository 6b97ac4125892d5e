// Pictures: drawn by Vega when they come into sight, anew when the theme or the width changes.

const drawnNow = new Set();

const inSight = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    inSight.unobserve(entry.target);
    entry.target.draw();
  }
}, { rootMargin: "300px" });

function theme() {
  return document.documentElement.dataset.theme;
}

// The specification for so many pixels: panels share the width, a single view takes it whole.
function sized(spec, width) {
  if (spec.facet) {
    const across = Math.max(1, Math.min(spec.columns, Math.floor(width / 210)));
    const each = Math.floor((width - 50) / across - 50);
    return { ...spec, columns: across, spec: { ...spec.spec, width: each, height: Math.round(each * (across < 3 ? 0.6 : 0.8)) } };
  }
  if (spec.hconcat) {
    const each = Math.max(70, Math.min(190, Math.floor((width - 50) / spec.hconcat.length - spec.spacing)));
    const size = { width: each, height: each };
    return { ...spec, hconcat: spec.hconcat.map((part) => ({ ...part, vconcat: part.vconcat.map((view) => ({ ...view, ...size })) })) };
  }
  if (spec.height) return spec; // a matrix, whose cells are as large as their words
  return { width: width - 4, height: Math.round(Math.min(380, width * 0.6)), autosize: { type: "fit-x", contains: "padding" }, ...spec };
}

// Each run keeps its line's colour, whichever of them are drawn.
function coloured(spec, groups) {
  const own = new Map(groups.filter((group) => group.same.colour).map((group) => [group.same.name, group.same.colour]));
  if (!own.size) return spec;
  const scale = { domain: [...own.keys()], range: [...own.values()] };
  const one = (view) => (view.encoding?.color ? { ...view, encoding: { ...view.encoding, color: { ...view.encoding.color, scale } } } : view);
  return { ...spec, layer: spec.layer.map(one) };
}

// A picture with its controls and its numbers. Of curves those runs are drawn that are chosen, of panels those columns.
function picture(found) {
  const chart = h("div", { class: "chart", role: "img", "aria-label": `${found.title}. ${found.alt}`, tabindex: 0 });
  const variants = Object.keys(found.variants);
  let spec = report.pool[variants.length ? found.variants[variants[0]] : found.spec];
  const choice = CHOICES[found.kind];
  const chosen = choice && choice.first(found);
  const groups = () => (choice ? found.groups.filter((group) => chosen.has(group.same[choice.by])) : found.groups);
  chart.draw = async () => {
    drawnNow.add(chart);
    const width = chart.clientWidth || 600;
    const config = { ...report.themes[theme()], aria: false };
    config.legend = { ...config.legend, columns: Math.max(1, Math.floor(width / 230)), labelLimit: Math.min(width - 60, 210) };
    const whole = { ...coloured(sized(spec, width), groups()), data: { name: "rows", values: rowsOf(groups()) }, $schema: "https://vega.github.io/schema/vega-lite/v6.json" };
    try {
      await window.vegaEmbed(chart, whole, { config, ast: true, actions: false, renderer: "svg", tooltip: { theme: theme() } });
      chart.querySelector("svg")?.setAttribute("aria-hidden", "true"); // the chart says it, and its numbers are below
    } catch (error) {
      chart.replaceChildren(h("p", { class: "quiet" }, `This picture could not be drawn: ${error.message}`));
    }
  };
  inSight.observe(chart);
  const redraw = () => { if (drawnNow.has(chart)) chart.draw(); };
  const controls = [];
  if (variants.length) controls.push(select("against", variants.map((name) => [name, name]), variants[0], (name) => { spec = report.pool[found.variants[name]]; redraw(); }));
  return h("figure", {},
    h("h3", {}, found.title),
    controls.length ? h("div", { class: "controls" }, controls) : null,
    choice ? choiceOf(found, choice, chosen, redraw) : null,
    chart,
    h("figcaption", {}, found.alt, notes(found.notes)),
    numbers(found.title, () => rowsOf(groups())),
  );
}

const FIRST_RUNS = 6;
const FIRST_PANELS = 12;

const firstRuns = (found) => new Set([...new Set(found.groups.map((group) => group.same.run))].slice(0, FIRST_RUNS));

// Those that fit worst, in which there is the most to see.
function firstPanels(found) {
  const worst = [...found.groups].sort((a, b) => b.same.distance - a.same.distance);
  return new Set(worst.slice(0, FIRST_PANELS).map((group) => group.same.panel));
}

const PANELS = { by: "panel", name: "panel", what: "Columns drawn", first: firstPanels };
const CHOICES = { curves: { by: "run", name: "name", what: "Runs drawn", first: firstRuns }, marginals: PANELS, classes: PANELS, pit: PANELS };

function choiceOf(found, choice, chosen, redraw) {
  const names = new Map(found.groups.map((group) => [group.same[choice.by], group.same[choice.name]]));
  if (names.size < 2) return null;
  const summary = h("summary", {});
  const worst = choice === PANELS && chosen.size < names.size ? ", those that fit worst" : "";
  const said = (more = "") => (summary.textContent = `${choice.what}: ${chosen.size} of ${names.size}${more}`);
  const boxes = [...names].map(([key, name]) => {
    const box = h("input", { type: "checkbox", checked: chosen.has(key) });
    box.addEventListener("change", () => { box.checked ? chosen.add(key) : chosen.delete(key); said(); redraw(); });
    return h("label", {}, box, name);
  });
  said(worst);
  return h("details", {}, summary, h("div", { class: "choices", role: "group", "aria-label": choice.what }, boxes));
}

function redrawAll() {
  for (const chart of drawnNow) chart.isConnected ? chart.draw() : drawnNow.delete(chart);
}
