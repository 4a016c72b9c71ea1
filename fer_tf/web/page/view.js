// Draws the boxes, and shows the ranked scores as bars that a screen reader reads.
import { answer } from "./recognizer.js";

/** @typedef {import("./recognizer.js").Face} Face */
/** @typedef {{threshold: number | undefined, minScore: number}} Settings */

const INKS = ["#ffb000", "#64b5ff", "#ff7bbd", "#6ee06e", "#ff8a50"]; // colours of boxes, visible on any picture with a dark rim

/** @param {number} score */
const percent = (score) => `${(100 * score).toFixed(0)} %`;

/**
 * @param {string} tag
 * @param {string} text
 */
export function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/** A picture with its boxes, beside the scores of its faces. */
export class View {
  /** @param {string} name of the picture */
  constructor(name) {
    this.figure = element("figure");
    this.canvas = /** @type {HTMLCanvasElement} */ (element("canvas"));
    this.canvas.setAttribute("role", "img");
    this.caption = element("figcaption");
    this.name = name;
    this.figure.append(this.canvas, this.caption);
  }

  /**
   * @param {CanvasImageSource} picture
   * @param {number} width
   * @param {number} height
   * @param {Face[]} faces
   * @param {Settings} settings
   * @param {boolean} isMirrored
   */
  show(picture, width, height, faces, settings, isMirrored = false) {
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    pen.save();
    if (isMirrored) pen.setTransform(-1, 0, 0, 1, width, 0);
    pen.drawImage(picture, 0, 0, width, height);
    pen.restore();
    const unit = Math.max(width, height) / 640;
    faces.forEach(({ box: [left, top, w, h], emotions }, i) => {
      const x = isMirrored ? width - left - w : left;
      for (const [style, thick] of [["#000", 5], [INKS[i % INKS.length], 2.5]]) {
        pen.strokeStyle = String(style);
        pen.lineWidth = Number(thick) * unit;
        pen.strokeRect(x, top, w, h);
      }
      const size = Math.max(13 * unit, Math.min(20 * unit, h / 5));
      const text = `${i + 1} ${answer(emotions, settings.threshold, settings.minScore)}`;
      pen.font = `600 ${size}px system-ui, sans-serif`;
      const wide = Math.min(pen.measureText(text).width + size / 2, width);
      const at = Math.max(0, Math.min(x, width - wide));
      const y = top >= size * 1.3 ? top - size * 1.3 : Math.min(top + h, height - size * 1.3);
      pen.fillStyle = INKS[i % INKS.length];
      pen.fillRect(at, y, wide, size * 1.3);
      pen.fillStyle = "#000";
      pen.fillText(text, at + size / 4, y + size, wide - size / 2);
    });
    this.canvas.setAttribute("aria-label", `${this.name}, faces: ${faces.length}`);
    this.caption.replaceChildren(element("h2", this.name));
    if (!faces.length) this.caption.append(element("p", "No face found."));
    faces.forEach(({ emotions }, i) => {
      this.caption.append(element("h3", `Face ${i + 1}: ${answer(emotions, settings.threshold, settings.minScore)}`));
      this.caption.append(bars(emotions, `face ${i + 1}`));
    });
  }
}

/**
 * @param {import("./recognizer.js").Emotions} emotions
 * @param {string} whose
 */
function bars(emotions, whose) {
  const list = element("ol");
  for (const [name, score] of emotions) {
    const row = element("li");
    const bar = element("div");
    const fill = element("div");
    const now = Math.round(100 * score);
    const values = { role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": now };
    const words = { "aria-valuetext": percent(score), "aria-label": `${name}, ${whose}` };
    for (const [key, value] of Object.entries({ ...values, ...words })) bar.setAttribute(key, String(value));
    bar.className = "bar";
    fill.style.width = `${now}%`;
    bar.append(fill);
    row.append(element("span", name), bar, element("span", percent(score)));
    list.append(row);
  }
  return list;
}
