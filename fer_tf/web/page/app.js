// The page: photographs and the camera go in, boxes and ranked scores come out.
import { Smoother, start, stop } from "./camera.js";
import { Recognizer } from "./recognizer.js";
import { View, element } from "./view.js";

/** @typedef {import("./recognizer.js").Face} Face */
/** @typedef {import("./resample.js").Pixels} Pixels */

const MAX_SIDE = 2048; // pixels; larger photographs are reduced to this side

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const get = (id) => /** @type {T} */ (document.getElementById(id));
const status = get("status");
/** @type {HTMLInputElement} */
const files = get("files");
/** @type {HTMLButtonElement} */
const button = get("camera");
/** @type {HTMLSelectElement} */
const coverage = get("coverage");
/** @type {HTMLInputElement} */
const minimum = get("minimum");
/** @type {HTMLInputElement} */
const smooth = get("smooth");
const video = document.createElement("video");
Object.assign(video, { muted: true, playsInline: true });

/** @param {string} text */
function say(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

function settings() {
  const threshold = coverage.value ? Number(coverage.value) : undefined;
  return { threshold, minScore: Math.min(Math.max(Number(minimum.value) || 0, 0), 100) / 100 };
}

/**
 * The RGB pixels of a picture; transparent parts become white.
 * @param {CanvasImageSource} picture
 * @param {OffscreenCanvas} canvas
 * @returns {Pixels}
 */
function pixels(picture, canvas) {
  const { width, height } = canvas;
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(picture, 0, 0, width, height);
  const { data } = pen.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return { width, height, channels: 3, data: rgb };
}

/** @param {Recognizer} recognizer */
function useFiles(recognizer) {
  /** @type {(() => void)[]} */
  let redraw = [];
  let queue = Promise.resolve();

  /** @param {File} file */
  async function recognize(file) {
    say(`Looking for faces in ${file.name} ...`);
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      const note = element("p", `${file.name}: this browser cannot read it as a picture.`);
      note.className = "bad";
      get("results").prepend(note);
      return say("Ready.");
    }
    const scale = Math.min(1, MAX_SIDE / Math.max(picture.width, picture.height));
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale)));
    const faces = await recognizer.recognize(pixels(picture, canvas));
    const view = new View(file.name);
    const show = () => view.show(canvas, canvas.width, canvas.height, faces, settings());
    show();
    redraw = [...redraw, show];
    get("results").prepend(view.figure);
    say(`${file.name}: ${faces.length === 1 ? "1 face" : `${faces.length} faces`}.`);
  }

  /** @param {FileList | undefined | null} given */
  const take = (given) => {
    for (const file of given ?? []) {
      queue = queue.then(() => recognize(file)).catch((error) => say(`${file.name}: ${error.message}`, true));
    }
  };
  files.addEventListener("change", () => {
    take(files.files);
    files.value = "";
  });
  const drop = get("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(/** @type {DragEvent} */ (event).dataTransfer?.files);
    });
  }
  for (const input of [coverage, minimum]) input.addEventListener("change", () => redraw.forEach((show) => show()));
}

/** @param {Recognizer} recognizer */
function useCamera(recognizer) {
  let isOn = false;
  let watching = Promise.resolve();

  async function watch() {
    const view = new View("Camera");
    get("live").replaceChildren(view.figure);
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    const smoother = new Smoother();
    let frames = 0;
    let since = performance.now();
    while (isOn) {
      const found = await recognizer.recognizeFrame(pixels(video, canvas));
      const faces = smooth.checked ? smoother.update(performance.now() / 1000, found) : found;
      if (isOn) view.show(canvas, canvas.width, canvas.height, faces, settings(), true);
      frames++;
      const elapsed = performance.now() - since;
      if (elapsed > 1000) {
        view.name = `Camera, ${((1000 * frames) / elapsed).toFixed(0)} pictures a second`;
        frames = 0;
        since = performance.now();
      }
      await new Promise(requestAnimationFrame);
    }
    get("live").replaceChildren();
  }

  button.addEventListener("click", async () => {
    if (isOn) {
      isOn = false;
      stop(video);
    } else {
      try {
        button.disabled = true;
        say("Starting the camera ...");
        await watching; // wait for the stopped loop, which must not see the next start
        await recognizer.openFrames();
        await start(video);
        isOn = true;
        say("The camera is on.");
        watching = watch().catch((error) => say(`The camera stopped: ${error.message}`, true));
      } catch (error) {
        const { name } = /** @type {Error} */ (error);
        const denied = name === "NotAllowedError";
        say(denied ? "The camera was not allowed. Allow it in the browser's settings of this page." : "No camera can be used here.", true);
      } finally {
        button.disabled = false;
      }
    }
    button.textContent = isOn ? "Stop camera" : "Start camera";
    button.setAttribute("aria-pressed", String(isOn));
    if (!isOn && !status.classList.contains("bad")) say("Ready.");
  });
}

/** Waits until the service worker sees our requests, because earlier ones would not be kept. */
async function keepFiles() {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  await serviceWorker.register("service-worker.js");
  if (serviceWorker.controller) return;
  await new Promise((resolve) => serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
}

async function main() {
  say("Loading the model ...");
  await Promise.race([keepFiles().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 5000))]);
  const recognizer = await Recognizer.open((share) => say(`Loading the model: ${(100 * share).toFixed(0)} %`));
  const { model } = recognizer;
  for (const [share, threshold] of Object.entries(model.thresholds)) {
    const words = `as many as are needed to be right in ${+(100 * Number(share)).toFixed(1)} %`;
    const option = /** @type {HTMLOptionElement} */ (element("option", words));
    option.value = String(threshold);
    coverage.append(option);
  }
  coverage.disabled = !coverage.options[1];
  get("no-thresholds").hidden = !coverage.disabled;
  const terms = model.synthetic ? " This model learnt from drawn faces only: its scores mean nothing." : "";
  get("terms").textContent = `The weights are for research. ${model.license}${terms}`;
  useFiles(recognizer);
  useCamera(recognizer);
  say("Ready.");
}

main().catch((error) => say(`The page cannot start: ${error.message}`, true));
