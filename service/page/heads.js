// A head's panel: its ranked classes, and the map of one of them.

import { ask, words } from "./api.js";
import { make, percent } from "./elements.js";
import { EvidenceMap } from "./map.js";
import { Notice } from "./notice.js";

const POOLINGS = { gap: "global average", gmp: "global max", flatten: "flatten", average: "average", max: "max" };

export class HeadPanel {
  /** `onClass(name)` is called when a person asks for the map of a class. */
  constructor(head, number, onClass) {
    Object.assign(this, { name: head.head, card: head.serving, number, onClass, maps: new Map() });
    this.classes = classesOf(this.card.labels);
    this.map = new EvidenceMap(this.name);
    this.ranked = make("ol", { className: "ranked" });
    this.mapped = make("h4");
    const told = make("div");
    this.notice = new Notice(told);
    const id = `head-${number}`;
    this.element = make("article", { className: "card head", "aria-labelledby": id },
      make("h3", { id }, dot(number), this.name), make("p", { className: "facts" }, facts(this.card)),
      make("div", { className: "sides" }, this.ranked, make("div", {}, this.mapped, this.map.element, told)));
  }

  /** Shows what /compare said of this picture, and forgets the maps of the last one. */
  answer(picture, predictions) {
    this.maps.clear();
    this.predictions = predictions;
    this.map.clear();
    this.map.showPicture(picture.seenBy(this.card.input));
    this.ranked.replaceChildren(...predictions.map((one) => this.#row(one)));
  }

  /** The map of a class, or of the top one when `name` is null or none of its classes'. */
  async explain(picture, name, signal) {
    const wanted = this.classes.includes(name) ? name : this.classes[this.predictions[0].index];
    this.#mark(wanted);
    const lacks = name !== null && wanted !== name ? `This head has no class ${name}. ` : "";
    try {
      const { result, total } = this.maps.get(wanted) ?? (await this.#ask(picture, wanted, signal));
      if (signal.aborted) return;
      this.map.show(result, total);
      this.mapped.textContent = `${lacks}Evidence for ${wanted}, ${percent(result.probability)}`;
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      this.map.clear();
      this.mapped.textContent = "";
      if (error.kind === "cannot-explain") this.notice.say(`No map: ${error.message}`);
      else this.notice.fail(words(error), { "Try again": () => this.explain(picture, name, signal) });
    }
  }

  async #ask(picture, name, signal) {
    this.notice.clear();
    const query = new URLSearchParams({ head: this.name, class: this.#parameter(name) });
    const options = { method: "POST", body: picture.file, type: "application/octet-stream", signal };
    const { results: [result], timing_ms: { total } } = await ask(`explain?${query}`, options, this.notice);
    if (!signal.aborted) this.maps.set(name, { result, total });
    return { result, total };
  }

  /** The label, where it is one class's only; else its number. */
  #parameter(name) {
    const index = this.classes.indexOf(name);
    return this.card.labels[index] === name ? name : String(index);
  }

  #row({ index, probability }) {
    const name = this.classes[index];
    const bar = make("span", { className: "bar" });
    bar.style.setProperty("--share", probability);
    bar.style.setProperty("--colour", `var(--c${this.number % 8})`);
    const button = make("button", { type: "button", title: `Map of ${name}`, "aria-pressed": "false" },
      make("span", { className: "label" }, name), " ", make("span", { className: "percent" }, percent(probability)), bar);
    button.dataset.name = name;
    button.addEventListener("click", () => this.onClass(name));
    return make("li", {}, button);
  }

  #mark(name) {
    for (const button of this.ranked.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.name === name));
    }
  }
}

/** Labels, with the class's number where several classes have the same: ImageNet has two cranes. */
function classesOf(labels) {
  const isShared = (label, index) => labels.indexOf(label) !== index || labels.lastIndexOf(label) !== index;
  return labels.map((label, index) => (isShared(label, index) ? `${label} (${index})` : label));
}

/** The mark of a head's colour, as in the charts. */
export function dot(number) {
  const mark = make("span", { className: "dot", "aria-hidden": "true" });
  mark.style.setProperty("--colour", `var(--c${number % 8})`);
  return mark;
}

function facts({ version, engine, structure, shares_with: shares }) {
  const { pooling, filter, hidden_units: hidden, parameters } = structure;
  const names = pooling.split("+").map((name) => POOLINGS[name]);
  const pooled = names.join(" and ") + (filter ? ` ${filter.join("\u00d7")}` : "");
  const layers = hidden.length ? `, hidden ${hidden.join(", ")}` : "";
  const others = shares.length > 2 ? `${shares.length} others` : shares.join(" and ");
  const sharing = others && `; shares its backbone with ${others}`;
  return `${pooled}${layers}; ${parameters.toLocaleString("en")} parameters; version ${version} on ${engine}${sharing}`;
}
