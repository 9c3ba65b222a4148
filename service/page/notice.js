// One place of the page where something is told: work that lasts, waiting, or what went wrong.

import { make } from "./elements.js";

export class Notice {
  constructor(place) {
    this.place = place;
    place.classList.add("notice");
    this.text = make("p", { role: "status" });
    this.actions = make("div", { className: "row" });
    place.append(this.text, this.actions);
    this.clear();
  }

  /** `actions`: what to call by the text of its button. */
  say(text, actions = {}) {
    this.#show(text, actions, "");
  }

  fail(text, actions = {}) {
    this.#show(text, actions, "bad");
  }

  clear() {
    this.#show("", {}, "");
  }

  #show(text, actions, kind) {
    if (this.text.textContent !== text) this.text.textContent = text;
    this.place.dataset.kind = kind;
    this.place.hidden = text === "";
    const names = Object.keys(actions);
    if (names.join() !== [...this.actions.children].map((button) => button.textContent).join()) {
      this.actions.replaceChildren(...names.map((name) => make("button", { type: "button" }, name)));
    }
    [...this.actions.children].forEach((button, at) => { button.onclick = actions[names[at]]; });
  }
}
