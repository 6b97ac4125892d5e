// The comparison: sorted by any column, filtered, with the columns that are chosen.

const APART = { reference: "references", published: "published", estimated: "published, estimated densities" };

function comparison(dataset) {
  const { columns, rows } = dataset.table;
  let shownColumns = columns.map((column) => column.shown);
  let order = null; // { column, up }
  let text = "";
  const table = h("table", {}, h("caption", { class: "quiet", style: "text-align:left;padding:6px 12px" }, dataset.heading));
  const count = h("span", { role: "status", class: "quiet" });

  const visible = () => columns.map((_, index) => index).filter((index) => shownColumns[index]);
  const value = (row, index) => (columns[index].figures ? row.values[index] : row.cells[index]);
  const before = (a, b) => {
    const [x, y] = [value(a, order.column), value(b, order.column)];
    if (x === null || x === "" || y === null || y === "") return (x === null || x === "") - (y === null || y === "");
    const sign = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
    return order.up ? sign : -sign;
  };
  const chosen = () => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = rows.filter((row) => words.every((word) => `${row.kind} ${row.cells.join(" ")} ${row.runs.join(" ")}`.toLowerCase().includes(word)));
    if (!order) return kept;
    // runs among themselves, then what is no run: a published number is held against nothing
    return [...kept.filter((row) => row.kind === "run").sort(before), ...kept.filter((row) => row.kind !== "run").sort(before)];
  };

  function cell(row, index) {
    const column = columns[index];
    const attributes = { class: [column.right ? "right" : "", row.cells[index].length > 44 ? "long" : ""].join(" ").trim() || null };
    if (index > 0) return h("td", attributes, row.cells[index]);
    if (!row.runs.length) return h("th", { ...attributes, scope: "row" }, row.cells[index]);
    const link = (run, name) => h("a", { href: address(dataset.name, run) }, name);
    if (row.runs.length === 1) return h("th", { ...attributes, scope: "row" }, `${row.place} `, link(row.runs[0], row.cells[index]));
    const seeds = row.runs.map((run, k) => [k ? " " : "", link(run, `run ${k + 1}`)]);
    return h("th", { ...attributes, scope: "row" }, `${row.place} ${row.cells[index]} `, h("span", { class: "quiet" }, seeds.flat()));
  }

  function draw() {
    const head = visible().map((index) => {
      const sorted = order?.column === index ? (order.up ? "ascending" : "descending") : null;
      const sign = sorted === "ascending" ? "▲" : sorted === "descending" ? "▼" : "↕";
      const sort = h("button", { type: "button" }, columns[index].name, h("span", { "aria-hidden": "true" }, sign));
      sort.addEventListener("click", () => {
        order = order?.column === index ? { column: index, up: !order.up } : { column: index, up: !columns[index].high };
        draw();
        table.querySelectorAll("thead th")[visible().indexOf(index)]?.querySelector("button").focus();
      });
      return h("th", { scope: "col", class: columns[index].right ? "right" : null, "aria-sort": sorted }, sort);
    });
    const found = chosen();
    let kind = "run";
    const body = found.flatMap((row) => {
      const title = row.kind !== kind && APART[row.kind] ? [h("tr", { class: "apart" }, h("th", { scope: "colgroup", colspan: visible().length }, APART[row.kind]))] : [];
      kind = row.kind;
      return [...title, h("tr", { class: row.mark === "best" ? "best" : row.kind === "run" ? null : "other" }, visible().map((index) => cell(row, index)))];
    });
    table.replaceChildren(table.caption, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body));
    count.textContent = found.length === rows.length ? `${rows.length} rows` : `${found.length} of ${rows.length} rows`;
  }

  const search = h("input", { type: "search", placeholder: "flow, setting, device …" });
  search.addEventListener("input", () => { text = search.value; draw(); });
  const boxes = columns.map((column, index) => {
    const box = h("input", { type: "checkbox", checked: shownColumns[index], disabled: index === 0 });
    box.addEventListener("change", () => { shownColumns[index] = box.checked; draw(); });
    return h("label", {}, box, column.name);
  });
  const cells = () => chosen().map((row) => visible().map((index) => row.cells[index]));
  const raw = () => chosen().map((row) => [row.kind, ...visible().map((index) => (columns[index].figures ? row.values[index] : row.cells[index]))]);
  draw();
  return h("div", {},
    h("div", { class: "controls" },
      h("label", {}, "Filter", search), count,
      copyButton("Copy as CSV", () => csv(["kind", ...visible().map((index) => columns[index].name)], raw())),
      copyButton("Copy as LaTeX", () => latex(visible().map((index) => columns[index]), cells()))),
    h("details", {}, h("summary", {}, "Columns"), h("div", { class: "choices", role: "group", "aria-label": "Columns shown" }, boxes)),
    region(`Comparison: ${dataset.name}`, table),
  );
}
