// The choice of the class whose maps are shown: all heads show the same one, for comparison.

import { make } from "./elements.js";

const FEW = 40;
const EACH = "each head's own first";

export class Classes {
  /** `onChoice(name)`, with null for each head's own first class. */
  constructor(place, names, onChoice) {
    Object.assign(this, { names: [...new Set(names)].sort((one, other) => one.localeCompare(other, "en", { numeric: true })), onChoice });
    this.control = this.names.length <= FEW ? this.#select() : this.#search();
    place.replaceChildren(make("label", { htmlFor: "class" }, "Map of"), this.control, ...this.#more);
    this.control.addEventListener("change", () => this.#changed());
  }

  #more = [];

  show(name) {
    this.control.value = name ?? "";
  }

  #select() {
    const options = this.names.map((name) => make("option", { value: name }, name));
    return make("select", { id: "class" }, make("option", { value: "" }, EACH), ...options);
  }

  #search() {
    const list = make("datalist", { id: "labels" }, ...this.names.map((name) => make("option", { value: name })));
    const clear = make("button", { type: "button" }, "Clear");
    clear.addEventListener("click", () => { this.show(null); this.#changed(); });
    this.#more = [list, clear];
    return make("input", { id: "class", type: "text", placeholder: EACH, autocomplete: "off", spellcheck: false, list: "labels" });
  }

  #changed() {
    const name = this.control.value.trim();
    const known = name === "" || this.names.includes(name);
    this.control.setCustomValidity?.(known ? "" : "No head has this class.");
    if (known) this.onChoice(name || null);
    else this.control.reportValidity();
  }
}
