// Elements of the page. Text is always text: nothing here reads HTML.

export const byId = (id) => document.getElementById(id);

const ATTRIBUTES = new Set(["list", "role"]);

/** An element with properties (or attributes: those with a dash and ATTRIBUTES) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || ATTRIBUTES.has(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A table; the first cell of a row names it. */
export function table(caption, names, rows) {
  const head = names.map((name) => (name === "" ? make("td") : make("th", { scope: "col" }, name)));
  const body = rows.map(([first, ...others]) =>
    make("tr", {}, make("th", { scope: "row" }, first), ...others.map((cell) => make("td", {}, cell))));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

/** What may be wider than the page scrolls by itself, by keyboard too. */
export const scrolling = (name, content) =>
  make("div", { className: "scrolls", tabIndex: 0, role: "region", "aria-label": name }, content);

/** A chart's figure: what it shows, a canvas to draw on, how to read it, and the same figures as a table. */
export function chartFigure(title, note, rows) {
  const canvas = make("canvas", { role: "img", "aria-label": `${title}; its figures are in the table that follows` });
  const figures = make("details", {}, make("summary", {}, `Figures: ${title}`), scrolling(title, rows));
  const caption = make("figcaption", {}, title);
  return { canvas, element: make("figure", { className: "card" }, caption, make("p", {}, note), make("div", { className: "canvas" }, canvas), figures) };
}

export const percent = (share) => {
  const told = 100 * share;
  if (told > 0 && told < 0.1) return "< 0.1 %";
  return `${told > 0 && told < 1 ? told.toFixed(1) : Math.round(told)} %`;
};
export const signed = (value, digits = 2) =>
  `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(digits)}`;
export const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
export const mb = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} MB`;
