// Addresses, and light and dark.

const THEMES = ["light", "dark"];
const main = document.getElementById("main");

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  document.getElementById("theme").textContent = name === "dark" ? "Light" : "Dark";
  document.getElementById("theme").setAttribute("aria-label", name === "dark" ? "Light colours" : "Dark colours");
}

function remembered(name) {
  try {
    if (name) localStorage.setItem("flowbench-theme", name);
    return localStorage.getItem("flowbench-theme");
  } catch {
    return name; // a page from a disk may have no storage
  }
}

function show(moved) {
  const [key, name] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const dataset = report.datasets.find((each) => each.name === key) ?? (report.datasets.length === 1 ? report.datasets[0] : null);
  const run = dataset && name && Object.hasOwn(report.runs, name) ? report.runs[name] : null;
  drawnNow.clear();
  const view = run ? runView(dataset, name, run) : dataset ? datasetView(dataset) : overview();
  main.replaceChildren(...view.flat(Infinity).filter(Boolean));
  for (const link of document.querySelectorAll("nav a")) {
    link.getAttribute("href") === address(dataset?.name) ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  document.title = `${run?.title ?? dataset?.name ?? report.folder} · flowbench`;
  if (moved) {
    main.querySelector("h1").focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const dark = matchMedia("(prefers-color-scheme: dark)");
setTheme(THEMES.includes(remembered()) ? remembered() : dark.matches ? "dark" : "light");
document.getElementById("theme").addEventListener("click", () => {
  setTheme(theme() === "dark" ? "light" : "dark");
  remembered(theme());
  redrawAll();
});
document.querySelector("nav").append(...report.datasets.map((dataset) => h("a", { href: address(dataset.name) }, dataset.name)));
document.querySelector("footer").append(h("p", {}, `Made by flowbench on ${report.made}. All of it is in this file; nothing is fetched.`));
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("hashchange", () => show(true));
let wait, width = innerWidth;
addEventListener("resize", () => {
  clearTimeout(wait);
  wait = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; redrawAll(); } }, 200);
});
show(false);
document.documentElement.dataset.ready = "yes";
