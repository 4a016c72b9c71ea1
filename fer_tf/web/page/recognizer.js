// Opens the networks in LiteRT.js, finds the faces of a picture and ranks their emotions.
import { CROP_SIDE, cropArea, cut, toGrey48 } from "./resample.js";
import { Detector } from "./detector.js";

/** @typedef {import("./resample.js").Pixels} Pixels */
/** @typedef {import("./resample.js").Box} Box */
/** @typedef {[string, number][]} Emotions class names with scores, the most likely first */
/** @typedef {{box: Box, emotions: Emotions}} Face */
/**
 * @typedef {object} Model what `fer-tf web` wrote into model.json
 * @property {string} file
 * @property {string[]} class_names
 * @property {number} channels
 * @property {Record<string, number>} thresholds of prediction sets, by coverage
 * @property {string} license
 * @property {boolean} synthetic
 */

// Side of the crop, in mean sides of BlazeFace's box. For 318 faces of composed photographs that YuNet also finds,
// YuNet's square is 1.18 mean sides (quartiles 1.12 and 1.27). Right with the shipped .tflite: 1.07: 67.0 %,
// 1.18: 67.9, 1.30: 68.6, 1.42: 67.9. Moving the square up by the median shift, 0.04 sides, gains nothing.
export const CROP_FACTOR = 1.2;
// Of the 795 faces of 240 composed photographs: 0.6 finds 68.2 % and invents 37, 0.65 62.0 % and 8, 0.7 52.1 % and 3.
const MIN_FACE_SCORE = 0.65;
const MIN_FACE_SIDE = 16; // pixels
const MAX_CROP_SIDE = 64; // pixels: a picture of at most this width and height is a face crop already
const FULL_RANGE = { file: "faces/full_range.tflite", side: 192 };
const SHORT_RANGE = { file: "faces/short_range.tflite", side: 128 }; // for faces that fill much of a frame

/** @type {any} */
let litert;

/** @param {string} file */
async function compile(file) {
  if (!litert) {
    const module = await import(/** @type {any} */ ("./litert/index.js"));
    await module.loadLiteRt(new URL("./litert/wasm/", import.meta.url).href);
    litert = module;
  }
  const response = await fetch(new URL(file, import.meta.url));
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  const content = new Uint8Array(await response.arrayBuffer());
  return litert.loadAndCompile(content, { accelerator: "wasm" });
}

/**
 * Runs a network; its tensors are freed by hand.
 * @param {any} network
 * @param {Uint8Array | Float32Array} values
 * @param {number[]} shape
 * @returns {Promise<Float32Array[]>}
 */
async function run(network, values, shape) {
  const input = new litert.Tensor(values, shape);
  const outputs = await network.run([input]);
  input.delete();
  return outputs.map((/** @type {any} */ output) => {
    const copy = Float32Array.from(output.toTypedArray());
    output.delete();
    return copy;
  });
}

/** @param {{file: string, side: number}} kind */
async function openDetector({ file, side }) {
  const network = await compile(file);
  const detect = (/** @type {Float32Array} */ input) => run(network, input, [1, side, side, 3]);
  return new Detector(detect, side, MIN_FACE_SCORE);
}

export class Recognizer {
  /** @type {Detector | undefined} of the camera's frames */
  frameDetector;

  /**
   * @param {Model} model
   * @param {any} network
   * @param {Detector} detector
   */
  constructor(model, network, detector) {
    this.model = model;
    this.network = network;
    this.detector = detector;
  }

  /**
   * Loads model and detector.
   * @param {(share: number) => void} progress
   */
  static async open(progress = () => {}) {
    const response = await fetch(new URL("model.json", import.meta.url));
    /** @type {Model} */
    const model = await response.json();
    progress(0.1);
    const network = await compile(model.file);
    progress(0.8);
    const detector = await openDetector(FULL_RANGE);
    progress(1);
    return new Recognizer(model, network, detector);
  }

  /**
   * Probabilities of a 48x48 grey crop.
   * @param {Uint8Array | Uint8ClampedArray} crop
   */
  async classify(crop) {
    const { channels } = this.model;
    const values = new Uint8Array(crop.length * channels);
    for (let i = 0; i < values.length; i++) values[i] = crop[Math.floor(i / channels)];
    return (await run(this.network, values, [1, CROP_SIDE, CROP_SIDE, channels]))[0];
  }

  /**
   * Finds the faces of a picture and ranks their emotions.
   * @param {Pixels} picture RGB
   * @returns {Promise<Face[]>}
   */
  async recognize(picture) {
    const { width, height } = picture;
    if (Math.max(width, height) <= MAX_CROP_SIDE) {
      return [{ box: [0, 0, width, height], emotions: this.rank(await this.classify(toGrey48(picture))) }];
    }
    return this.rankEach(picture, await this.detector.find(picture, true));
  }

  /** Loads the detector of the camera's frames. */
  async openFrames() {
    this.frameDetector ??= await openDetector(SHORT_RANGE);
  }

  /**
   * Finds the faces of a frame of the camera, after `openFrames`.
   * @param {Pixels} picture RGB
   */
  async recognizeFrame(picture) {
    const detector = /** @type {Detector} */ (this.frameDetector);
    return this.rankEach(picture, await detector.find(picture, false));
  }

  /**
   * @param {Pixels} picture RGB
   * @param {import("./detector.js").Found[]} places
   */
  async rankEach(picture, places) {
    const { width, height } = picture;
    /** @type {Face[]} */
    const faces = [];
    for (const found of places) {
      if (Math.min(found.width, found.height) < MIN_FACE_SIDE) continue;
      const box = cropArea([found.x, found.y, found.width, found.height], CROP_FACTOR, width, height);
      faces.push({ box, emotions: this.rank(await this.classify(toGrey48(cut(picture, box)))) });
    }
    return faces;
  }

  /**
   * @param {Float32Array} probabilities
   * @returns {Emotions}
   */
  rank(probabilities) {
    const pairs = this.model.class_names.map((name, i) => /** @type {[string, number]} */ ([name, probabilities[i]]));
    return pairs.sort((a, b) => b[1] - a[1]);
  }
}

/**
 * The answer as Python gives it: the classes of the prediction set, or "uncertain".
 * @param {Emotions} emotions
 * @param {number | undefined} threshold of prediction sets
 * @param {number} minScore
 */
export function answer(emotions, threshold, minScore) {
  if (emotions[0][1] < minScore) return "uncertain";
  const names = emotions.filter(([, score], i) => i === 0 || (threshold !== undefined && 1 - score <= threshold));
  const words = names.map(([name]) => name);
  return words.length === 1 ? words[0] : `${words.slice(0, -1).join(", ")} or ${words[words.length - 1]}`;
}
