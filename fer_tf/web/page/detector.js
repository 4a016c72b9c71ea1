// Finds faces with BlazeFace: anchors, boxes, and the tiles for small faces.
import { cut, resize, round } from "./resample.js";

/** @typedef {import("./resample.js").Pixels} Pixels */
/** @typedef {{x: number, y: number, width: number, height: number, score: number}} Found */

const OVERLAP = 0.3; // from this intersection over union on, two boxes show one face
const EDGE = 0.02; // share of a tile's side; a box this close to the tile's edge is cut off, and another tile has it
const TILE_PARTS = [2, 4]; // tiles are squares of a half and a quarter of the longer side, overlapping by a half
const SMALLEST_TILE = 160; // pixels

/**
 * Centres of the anchors, in [0, 1].
 * @param {number} side of the network's input: 192 is full range, 128 short range
 */
export function anchors(side) {
  const grids = side === 192 ? [[48, 1]] : [[16, 2], [8, 6]];
  const centres = [];
  for (const [cells, copies] of grids) {
    for (let y = 0; y < cells; y++) {
      for (let x = 0; x < cells; x++) {
        for (let i = 0; i < copies; i++) centres.push([(x + 0.5) / cells, (y + 0.5) / cells]);
      }
    }
  }
  return centres;
}

export class Detector {
  /**
   * @param {(input: Float32Array) => Promise<Float32Array[]>} run of the network
   * @param {number} side of its input
   * @param {number} minScore
   */
  constructor(run, side, minScore) {
    this.run = run;
    this.side = side;
    this.minScore = minScore;
    this.anchors = anchors(side);
  }

  /**
   * Finds the faces of a picture, the largest first.
   * @param {Pixels} picture RGB
   * @param {boolean} inTiles also look for small faces
   */
  async find(picture, inTiles) {
    const found = await this.findIn(picture);
    for (const part of inTiles ? TILE_PARTS : []) {
      for (const [x, y, w, h] of tiles(picture.width, picture.height, part)) {
        const margin = EDGE * w;
        for (const face of await this.findIn(cut(picture, [x, y, w, h]))) {
          const isCut =
            (x > 0 && face.x < margin) ||
            (y > 0 && face.y < margin) ||
            (x + w < picture.width && face.x + face.width > w - margin) ||
            (y + h < picture.height && face.y + face.height > h - margin);
          if (!isCut) found.push({ ...face, x: face.x + x, y: face.y + y });
        }
      }
    }
    return eachOnce(found).sort((a, b) => b.width * b.height - a.width * a.height);
  }

  /**
   * Finds faces in one run of the network.
   * @param {Pixels} image RGB
   * @returns {Promise<Found[]>}
   */
  async findIn(image) {
    const { side } = this;
    const scale = side / Math.max(image.width, image.height);
    const width = Math.max(1, round(image.width * scale));
    const height = Math.max(1, round(image.height * scale));
    const small = resize(image, width, height, scale < 1 ? "box" : "bilinear");
    const left = (side - width) >> 1;
    const top = (side - height) >> 1;
    const input = new Float32Array(side * side * 3).fill(-1);
    for (let y = 0; y < height; y++) {
      const to = ((top + y) * side + left) * 3;
      for (let i = 0; i < width * 3; i++) input[to + i] = small.data[y * width * 3 + i] / 127.5 - 1;
    }
    const outputs = await this.run(input);
    const [scores, boxes] = outputs[0].length < outputs[1].length ? outputs : [outputs[1], outputs[0]];
    const found = [];
    for (let i = 0; i < scores.length; i++) {
      const score = 1 / (1 + Math.exp(-scores[i]));
      if (score < this.minScore) continue;
      const [dx, dy, w, h] = boxes.subarray(16 * i, 16 * i + 4);
      const x = dx + this.anchors[i][0] * side - w / 2 - left;
      const y = dy + this.anchors[i][1] * side - h / 2 - top;
      found.push({
        x: (x * image.width) / width,
        y: (y * image.height) / height,
        width: (w * image.width) / width,
        height: (h * image.height) / height,
        score,
      });
    }
    return eachOnce(found);
  }
}

/**
 * Overlapping squares that cover a picture.
 * @param {number} width
 * @param {number} height
 * @param {number} part
 * @returns {[number, number, number, number][]}
 */
function tiles(width, height, part) {
  const side = Math.min(Math.round(Math.max(width, height) / part), width, height);
  if (side < SMALLEST_TILE) return [];
  /** @param {number} length */
  const starts = (length) => {
    const steps = Math.ceil((length - side) / (side / 2));
    return steps <= 0 ? [0] : Array.from({ length: steps + 1 }, (_, i) => Math.round(((length - side) * i) / steps));
  };
  return starts(height).flatMap((y) => starts(width).map((x) => /** @type {[number, number, number, number]} */ ([x, y, side, side])));
}

/**
 * Replaces overlapping boxes with their mean, weighted by the scores.
 * @param {Found[]} found
 */
function eachOnce(found) {
  const kept = [];
  let left = [...found].sort((a, b) => b.score - a.score);
  while (left.length) {
    const best = left[0];
    const same = left.filter((face) => face === best || overlap(face, best) > OVERLAP);
    const total = same.reduce((sum, face) => sum + face.score, 0);
    /** @param {"x" | "y" | "width" | "height"} key */
    const mean = (key) => same.reduce((sum, face) => sum + face[key] * face.score, 0) / total;
    kept.push({ x: mean("x"), y: mean("y"), width: mean("width"), height: mean("height"), score: best.score });
    left = left.filter((face) => !same.includes(face));
  }
  return kept;
}

/**
 * Intersection over union.
 * @param {Found} a
 * @param {Found} b
 */
function overlap(a, b) {
  const w = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const h = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return w <= 0 || h <= 0 ? 0 : (w * h) / (a.width * a.height + b.width * b.height - w * h);
}
