// The picture that a person moves, with mouse, finger or keys. Offsets are pixels of the head's input.

import { drawMoved } from "./picture.js";

const STEP = 8;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Stage {
  constructor(canvas, onMove) {
    Object.assign(this, { canvas, onMove, seen: null, right: 0, down: 0 });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  /** Shows another picture, in its place. */
  show(seen) {
    Object.assign(this, { seen, right: 0, down: 0 });
    drawMoved(this.canvas, seen, 0, 0);
  }

  move(right, down) {
    const within = (value, size) => Math.round(Math.max(-(size >> 1), Math.min(size >> 1, value)));
    const to = [within(right, this.seen.width), within(down, this.seen.height)];
    if (to[0] === this.right && to[1] === this.down) return;
    [this.right, this.down] = to;
    drawMoved(this.canvas, this.seen, ...to);
    this.onMove(...to);
  }

  #key(event) {
    if (event.key === "Escape" || event.key === "Home") this.move(0, 0);
    else if (event.key in ARROWS) {
      const [x, y] = ARROWS[event.key];
      const step = event.shiftKey ? 1 : STEP;
      this.move(this.right + step * x, this.down + step * y);
    } else return;
    event.preventDefault();
  }

  #drag(start) {
    const { canvas, right, down } = this;
    const scale = canvas.width / canvas.clientWidth;
    canvas.setPointerCapture(start.pointerId);
    const follow = (event) => this.move(right + scale * (event.clientX - start.clientX), down + scale * (event.clientY - start.clientY));
    canvas.addEventListener("pointermove", follow);
    const end = () => canvas.removeEventListener("pointermove", follow);
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end, { once: true });
  }
}

/** An offset in words. */
export function told(right, down) {
  const across = right && `${Math.abs(right)} px ${right > 0 ? "right" : "left"}`;
  const along = down && `${Math.abs(down)} px ${down > 0 ? "down" : "up"}`;
  return [across, along].filter(Boolean).join(", ") || "in its place";
}
