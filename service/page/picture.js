// A picture as it was given, and as a head sees it: stretched, or the middle square of it.

const MARGIN = 256 / 224; // center_crop: the short side is this many times the head's

export class Picture {
  /** `bitmap` is null where this browser cannot show what the heads can read. */
  constructor(name, file, bitmap) {
    Object.assign(this, { name, file, bitmap });
  }

  static async of(name, file) {
    return new Picture(name, file, await createImageBitmap(file).catch(() => null));
  }

  /** A canvas of the head's input size. */
  seenBy({ width, height, resize }) {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    if (this.bitmap === null) {
      context.fillStyle = "#888";
      context.fillRect(0, 0, width, height);
      return canvas;
    }
    const [x, y, wide, high] = resize === "center_crop" ? this.#middle(width, height) : [0, 0, this.bitmap.width, this.bitmap.height];
    context.imageSmoothingEnabled = resize !== "load_img";
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, x, y, wide, high, 0, 0, width, height);
    return canvas;
  }

  #middle(width, height) {
    const scale = Math.max((width * MARGIN) / this.bitmap.width, (height * MARGIN) / this.bitmap.height);
    const [wide, high] = [width / scale, height / scale];
    return [(this.bitmap.width - wide) / 2, (this.bitmap.height - high) / 2, wide, high];
  }
}

/** Draws `seen` moved by (right, down), its edges repeated. */
export function drawMoved(canvas, seen, right, down) {
  const { width, height } = seen;
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const columns = pieces(width, right);
  for (const [fromY, high, toY, tall] of pieces(height, down)) {
    for (const [fromX, wide, toX, broad] of columns) context.drawImage(seen, fromX, fromY, wide, high, toX, toY, broad, tall);
  }
}

/** [from, length, to, new length] of what stays and of the edge that is repeated. */
function pieces(size, by) {
  const stays = size - Math.abs(by);
  if (by > 0) return [[0, stays, by, stays], [0, 1, 0, by]];
  if (by < 0) return [[-by, stays, 0, stays], [size - 1, 1, stays, -by]];
  return [[0, size, 0, size]];
}

/** Calls `take(name, file)` with whatever is dropped, pasted, chosen, or clicked as an example. */
export function listen({ source, input, take, refuse }) {
  const given = (files) => (files?.length ? take(files[0].name, files[0]) : undefined);
  input.addEventListener("change", () => { given(input.files); input.value = ""; });
  given(input.files);
  addEventListener("paste", (event) => given(event.clipboardData?.files));
  addEventListener("dragover", (event) => { event.preventDefault(); source.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) source.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    source.classList.remove("over");
    if (event.dataTransfer.files.length) given(event.dataTransfer.files);
    else refuse("That was not a file. Save the picture first, then drop the file here.");
  });
  for (const button of source.querySelectorAll("[data-example]")) {
    button.addEventListener("click", async () => {
      const name = button.dataset.example;
      const response = await fetch(`static/${name}`).catch(() => null);
      if (response?.ok) take(button.firstElementChild.alt, await response.blob());
      else refuse("The server does not answer. Is it still running?");
    });
    button.disabled = false;
  }
}
