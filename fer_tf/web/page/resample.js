// Cuts a face and shrinks it to 48x48 grey pixels exactly as Python does (fer_tf/faces/crops.py).

/** @typedef {{width: number, height: number, channels: number, data: Uint8Array | Uint8ClampedArray}} Pixels */
/** @typedef {[number, number, number, number]} Box left, top, width, height in pixels */

export const CROP_SIDE = 48;
const PRECISION_BITS = 22; // of Pillow's 8-bit resampling: 32 - 8 - 2

/**
 * Rounds like Python's round(): halves go to the even number.
 * @param {number} value
 */
export function round(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/**
 * For each output pixel the first input pixel and the weights, in Pillow's fixed point (src/libImaging/Resample.c).
 * @param {number} from
 * @param {number} to
 * @param {"box" | "bilinear"} filter
 */
function weights(from, to, filter) {
  const scale = from / to;
  const filterScale = Math.max(scale, 1);
  const support = (filter === "box" ? 0.5 : 1) * filterScale;
  const result = [];
  for (let out = 0; out < to; out++) {
    const centre = (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const values = new Float64Array(end - first);
    let sum = 0;
    for (let i = 0; i < values.length; i++) {
      const x = (i + first - centre + 0.5) * (1 / filterScale);
      if (filter === "box") values[i] = x > -0.5 && x <= 0.5 ? 1 : 0;
      else values[i] = Math.max(0, 1 - Math.abs(x));
      sum += values[i];
    }
    result.push({ first, values: Int32Array.from(values, (v) => Math.trunc(0.5 + (v / sum) * (1 << PRECISION_BITS))) });
  }
  return result;
}

/**
 * Resizes along one axis.
 * @param {Pixels} image
 * @param {number} to
 * @param {"box" | "bilinear"} filter
 * @param {boolean} isHorizontal
 * @returns {Pixels}
 */
function resizeAxis(image, to, filter, isHorizontal) {
  const { channels, data } = image;
  const width = isHorizontal ? to : image.width;
  const height = isHorizontal ? image.height : to;
  const result = new Uint8Array(width * height * channels);
  const step = isHorizontal ? channels : image.width * channels;
  const table = weights(isHorizontal ? image.width : image.height, to, filter);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, values } = table[isHorizontal ? x : y];
      const start = isHorizontal ? (y * image.width + first) * channels : (first * image.width + x) * channels;
      for (let c = 0; c < channels; c++, at++) {
        let sum = 1 << (PRECISION_BITS - 1);
        for (let i = 0, from = start + c; i < values.length; i++, from += step) sum += data[from] * values[i];
        result[at] = Math.min(255, sum >> PRECISION_BITS);
      }
    }
  }
  return { width, height, channels, data: result };
}

/**
 * Resizes as Pillow's Image.resize does.
 * @param {Pixels} image
 * @param {number} width
 * @param {number} height
 * @param {"box" | "bilinear"} filter
 * @returns {Pixels}
 */
export function resize(image, width, height, filter) {
  const narrow = image.width === width ? image : resizeAxis(image, width, filter, true);
  return narrow.height === height ? narrow : resizeAxis(narrow, height, filter, false);
}

/**
 * Cuts a part out of a picture.
 * @param {Pixels} image
 * @param {Box} box inside the picture
 * @returns {Pixels}
 */
export function cut(image, [left, top, width, height]) {
  const row = width * image.channels;
  const data = new Uint8Array(row * height);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * image.width + left) * image.channels;
    data.set(image.data.subarray(from, from + row), y * row);
  }
  return { width, height, channels: image.channels, data };
}

/**
 * The square that is cut around a face, moved into the picture.
 * @param {Box} box
 * @param {number} factor side of the square, in mean sides of the box
 * @param {number} width of the picture
 * @param {number} height of the picture
 * @returns {Box}
 */
export function cropArea([left, top, w, h], factor, width, height) {
  const side = Math.min(round((factor * (w + h)) / 2), width, height);
  const x = Math.min(Math.max(round(left + (w - side) / 2), 0), width - side);
  const y = Math.min(Math.max(round(top + (h - side) / 2), 0), height - side);
  return [x, y, side, side];
}

/**
 * The 48x48 grey pixels of the largest centred square of a picture.
 * @param {Pixels} image RGB
 */
export function toGrey48(image) {
  const grey = new Uint8Array(image.width * image.height);
  for (let i = 0, at = 0; i < grey.length; i++, at += 3) {
    grey[i] = (image.data[at] * 19595 + image.data[at + 1] * 38470 + image.data[at + 2] * 7471 + 0x8000) >> 16;
  }
  const whole = { width: image.width, height: image.height, channels: 1, data: grey };
  const side = Math.min(image.width, image.height);
  const square = cut(whole, [Math.floor((image.width - side) / 2), Math.floor((image.height - side) / 2), side, side]);
  return resize(square, CROP_SIDE, CROP_SIDE, "bilinear").data;
}
