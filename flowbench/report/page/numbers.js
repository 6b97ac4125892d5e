// The numbers behind pictures and tables: as rows, as CSV, as LaTeX.

// The rows of a picture's groups; lists that several have are in the report's pool.
function rowsOf(groups) {
  const rows = [];
  for (const { same, columns } of groups) {
    const names = Object.keys(columns);
    const lists = names.map((name) => (Array.isArray(columns[name]) ? columns[name] : report.pool[columns[name]]));
    for (let i = 0; i < (lists[0]?.length ?? 0); i++) {
      const row = { ...same };
      names.forEach((name, k) => (row[name] = lists[k][i]));
      rows.push(row);
    }
  }
  return rows;
}

function csv(header, rows) {
  const cell = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r']/.test(text)) text = `'${text}`; // a spreadsheet would compute it
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [header, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

const IN_LATEX = {
  "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$",
  "±": "$\\pm$", "×": "$\\times$", "µ": "$\\mu$", "▼": "$\\bigtriangledown$", "–": "--", "−": "$-$", "…": "\\ldots{}", "·": "$\\cdot$",
};

function latex(columns, rows) {
  const text = (value) => String(value ?? "").replace(/[&%$#_{}]/g, "\\$&").replace(/\\(?![&%$#_{}])|[~^<>|±×µ▼–−…·]/g, (c) => IN_LATEX[c]);
  const line = (cells) => `${cells.map(text).join(" & ")} \\\\`;
  const shape = columns.map((column) => (column.right ? "r" : "l")).join("");
  return [
    `\\begin{tabular}{${shape}}`, "\\toprule", line(columns.map((column) => column.name)), "\\midrule", ...rows.map(line),
    "\\bottomrule", "\\end{tabular}", "",
  ].join("\n");
}

const MOST_ROWS = 400;

// A table of a picture's rows, made when it is asked for.
function numbers(title, rows) {
  const details = h("details", {}, h("summary", {}, "Numbers"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    const all = rows();
    const names = [...new Set(all.flatMap((row) => Object.keys(row)))];
    const body = all.slice(0, MOST_ROWS).map((row) => h("tr", {}, names.map((name) => h("td", { class: typeof row[name] === "number" ? "right" : null }, shown(row[name])))));
    const more = all.length > MOST_ROWS ? `the first ${MOST_ROWS} of ${all.length} rows; the copy has all` : "";
    details.append(
      h("div", { class: "controls" }, copyButton("Copy as CSV", () => csv(names, all.map((row) => names.map((name) => row[name])))), h("span", { class: "quiet" }, more)),
      region(`Numbers: ${title}`, h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, body))),
    );
  });
  return details;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value);
}
