// The live view: frames of the camera, and scores that are averaged over time.

/** @typedef {import("./recognizer.js").Face} Face */

const SMOOTHING_SECONDS = 0.5; // time constant, as in Python (fer_tf/faces/tracking.py)
const FORGET_SECONDS = 1;
const SAME_FACE_DISTANCE = 0.6; // most distance of the centres, in sides of the face

/** Follows faces by their places, and averages each face's scores with exponentially falling weights. */
export class Smoother {
  constructor() {
    /** @type {{face: Face, scores: Map<string, number>, seconds: number}[]} */
    this.tracks = [];
  }

  /**
   * @param {number} seconds
   * @param {Face[]} faces
   * @returns {Face[]}
   */
  update(seconds, faces) {
    const known = this.tracks.filter((track) => seconds - track.seconds <= FORGET_SECONDS);
    this.tracks = known;
    const taken = new Set();
    return faces.map((face) => {
      const near = known
        .filter((track) => !taken.has(track) && distance(track.face, face) <= SAME_FACE_DISTANCE)
        .sort((a, b) => distance(a.face, face) - distance(b.face, face))[0];
      const track = near ?? { face, scores: new Map(face.emotions), seconds };
      if (!near) this.tracks = [...this.tracks, track];
      taken.add(track);
      const weight = 1 - Math.exp(-(seconds - track.seconds) / SMOOTHING_SECONDS);
      for (const [name, score] of face.emotions) {
        const old = track.scores.get(name) ?? score;
        track.scores.set(name, old + weight * (score - old));
      }
      Object.assign(track, { face, seconds });
      return { box: face.box, emotions: [...track.scores].sort((a, b) => b[1] - a[1]) };
    });
  }
}

/**
 * @param {Face} a
 * @param {Face} b
 */
function distance({ box: a }, { box: b }) {
  return Math.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2) / ((a[2] + b[2]) / 2);
}

/**
 * Starts the camera.
 * @param {HTMLVideoElement} video
 */
export async function start(video) {
  const wanted = { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } };
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  await video.play();
}

/** @param {HTMLVideoElement} video */
export function stop(video) {
  const stream = /** @type {MediaStream | null} */ (video.srcObject);
  for (const track of stream?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}
