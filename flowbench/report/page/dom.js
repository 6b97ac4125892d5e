// Elements from plain values. Text is always text: nothing of a record is ever parsed as markup.

const report = JSON.parse(document.getElementById("document").textContent);

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// What is scrolled to the side by itself, by the keyboard, too.
function region(label, table) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table);
}

function notes(texts) {
  return texts.length ? h("ul", { class: "quiet" }, texts.map((text) => h("li", {}, text))) : null;
}

function select(label, options, chosen, onChange) {
  const element = h("select", { onchange: () => onChange(element.value) });
  for (const [value, text] of options) element.append(h("option", { value, selected: value === chosen }, text));
  return h("label", {}, label, element);
}

function button(text, onClick) {
  return h("button", { type: "button", onclick: onClick }, text);
}

// Copies to the clipboard, and says so to whoever sees and whoever hears the page.
function copyButton(label, text) {
  const said = h("span", { role: "status", class: "quiet" });
  const done = (ok) => {
    said.textContent = ok ? "copied" : "the browser did not allow it";
    setTimeout(() => (said.textContent = ""), 3000);
  };
  return h("span", {}, button(label, () => copy(text()).then(() => done(true), () => done(false))), " ", said);
}

function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text).catch(() => copyOld(text));
  return copyOld(text);
}

// Files opened from a disk are no secure context in every browser.
function copyOld(text) {
  const area = h("textarea", { style: "position:fixed;opacity:0", "aria-hidden": "true" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const ok = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return ok ? Promise.resolve() : Promise.reject(new Error("not allowed"));
}
