// The keys that a person typed in: in memory, and nowhere else.

import { byId } from "./elements.js";

const keys = { user: null, admin: null };
let asked = null;

export const headers = (who) => {
  const key = keys[who] ?? keys.user;
  return key === null ? {} : { "X-API-Key": key };
};

/** Asks for the key of `who`, once at a time, and resolves when there is one. */
export function askKey(who, refused) {
  asked ??= new Promise((resolve) => {
    const [form, text] = [byId("key"), byId("key-text")];
    form.querySelector("label").textContent = question(who, refused);
    form.hidden = false;
    text.value = "";
    text.focus();
    form.onsubmit = (event) => {
      event.preventDefault();
      keys[who] = text.value.trim();
      text.value = "";
      form.hidden = true;
      asked = null;
      resolve();
    };
  });
  return asked;
}

function question(who, refused) {
  if (who === "admin") return refused ? "Measuring needs the administrator's key; this one is not it." : "Measuring needs the administrator's key.";
  return refused ? "The service does not know this key." : "This service asks for a key.";
}
