// Asks the service, patiently, and says in words what stands in the way. Paths are relative.

import { askKey, headers } from "./keys.js";

const SLOW_MS = 3000;
const LOADING_S = 2;

export class Problem extends Error {
  constructor({ status = 0, type = "", title = "", detail = "" }) {
    super(detail.replace(/^Image 0: /, "") || title || `The server answered ${status}.`);
    this.status = status;
    this.kind = type.split(":").pop();
  }
}

/** The JSON of an answer. See `open`. */
export const ask = async (path, options, notice) => (await open(path, options, notice)).json();

/**
 * A response that is fine. Waits where the service asks for it, and tells so in `notice`.
 * options: method, body, type, accept, signal, `who` holds the key, `cancel` is offered while it lasts.
 * Throws a Problem, or AbortError when `signal` was.
 */
export async function open(path, options, notice) {
  for (;;) {
    const sent = headers(options.who ?? "user");
    const response = await once(path, options, sent, notice);
    if (response.ok) return response;
    const problem = await read(response);
    if (problem.status === 401) {
      notice.clear();
      await askKey(options.who ?? "user", "X-API-Key" in sent);
    } else if (problem.status === 429) {
      await wait(Number(response.headers.get("Retry-After")) || 1, "The service is busy.", options, notice);
    } else if (problem.kind === "not-ready") {
      await wait(LOADING_S, `The heads are not ready yet. ${problem.message}`, options, notice);
    } else throw problem;
    options.signal?.throwIfAborted();
  }
}

async function once(path, options, sent, notice) {
  const { method, body, signal, cancel, type, accept = "application/json" } = options;
  const begun = performance.now();
  const told = cancel ? { Cancel: cancel } : {};
  const slow = () => notice.say(`Still working (${Math.round((performance.now() - begun) / 1000)} s)\u2026`, told);
  const ticking = options.lasts ? 0 : setInterval(() => performance.now() - begun > SLOW_MS && slow(), 1000);
  try {
    const response = await fetch(path, {
      method, body, signal, headers: { Accept: accept, ...(type && { "Content-Type": type }), ...sent },
    });
    if (response.ok) notice.clear();
    return response;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ type: body?.size > 2 ** 20 ? "cut-off" : "gone" });
  } finally {
    clearInterval(ticking);
  }
}

export const read = async (response) =>
  new Problem({ ...(await response.json().catch(() => ({}))), status: response.status });

/** Counts down the seconds; "Try now" ends it. */
function wait(seconds, why, { signal, cancel }, notice) {
  return new Promise((resolve, reject) => {
    let left = seconds;
    const done = (settle, value) => {
      clearInterval(ticking);
      notice.clear();
      settle(value);
    };
    const tell = () => notice.say(`${why} Trying again in ${left} s.`, {
      "Try now": () => done(resolve),
      ...(cancel && { Cancel: cancel }),
    });
    const ticking = setInterval(() => (--left > 0 ? tell() : done(resolve)), 1000);
    signal?.addEventListener("abort", () => done(reject, signal.reason), { once: true });
    tell();
  });
}

const WORDS = {
  gone: () => "The server does not answer. Is it still running?",
  "cut-off": () => "The server does not answer, or it would not take a file of this size.",
  "not-an-image": () => "This file is not a picture that the heads can read. JPEG, PNG, WebP, GIF, BMP and TIFF work.",
  "image-too-large": ({ message }) => `This picture is too large. ${message}`,
  "body-too-large": ({ message }) => `This file is too large. ${message}`,
  "body-too-slow": () => "The picture took too long to arrive.",
  "deadline-exceeded": () => "The heads took too long, and the service gave up.",
  "engine-failed": () => "The engine failed on this picture. The service's log says why.",
  internal: () => "The service failed. Its log says why.",
  "benchmark-running": () => "Somebody is measuring already. Try again when that is done.",
};

/** Whether the same question may get another answer later. */
export const isPassing = (error) => !(error.status >= 400 && error.status < 500) || error.status === 408;

/** What a person is told about an error. */
export function words(error) {
  if (error instanceof Problem) return (WORDS[error.kind] ?? (({ message }) => message))(error);
  return `Something on this page went wrong: ${error.message}`;
}
