"""Follows faces from frame to frame and averages their scores over time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image

from fer_tf.faces.crops import Box

SMOOTHING_SECONDS = 0.5  # time constant of the exponential average of a face's scores
_FORGET_SECONDS = 1.0  # after so long unseen, a face counts as a new face
_FORGET_SAMPLES = 2.5  # the same limit in sampled frames, because a second may have no frame
_VELOCITY_SECONDS = 0.15  # time constant of the average of a face's velocity
_COAST_SECONDS = 0.5  # an unseen face is expected to keep its velocity for so long, and then to stay
# Most distance from the expected place, in sides of the face; equal faces then overlap by a quarter (intersection over
# union).
_SAME_FACE_DISTANCE = 0.6
_DISTANCE_A_SECOND = 0.5  # growth of this limit while the face is unseen
_STOPPED_PENALTY = 0.2  # added to the distance from the place where a face was last seen, in sides of the face
_SAME_FACE_RATIO = 2.0  # largest ratio of a face's sides in two frames
# A cut: the thumbnails of two successive frames differ by this much on average and are hardly correlated. A flash
# changes only the grey levels, and a moving face changes only a part of the picture.
_CUT_DIFFERENCE, _CUT_CORRELATION = 25.0, 0.5
_CUT_SECONDS = 0.5  # frames that are further apart differ even without a cut
_THUMBNAIL = (32, 18)


@dataclasses.dataclass
class _Track:
    number: int
    box: Box
    probabilities: np.ndarray
    seconds: float  # time when the face was last seen
    velocity: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))  # pixels a second


class Smoother:
    """Follows faces from frame to frame and averages each face's scores with exponentially falling weights.

    A score that is t seconds old has the weight exp(-t / SMOOTHING_SECONDS), whatever the frame rate. The velocity of a
    face gives its expected place, so faces keep their numbers when they cross or hide each other. A cut ends all faces.
    """

    def __init__(self, *, every: float = 0.0) -> None:
        """Start without faces.

        Args:
            every: seconds between sampled frames; 0 if every frame is seen.
        """
        self._tracks: list[_Track] = []
        self._count = 0
        self._forget = max(_FORGET_SECONDS, _FORGET_SAMPLES * every)
        self._thumbnail: np.ndarray | None = None
        self._seconds = -math.inf

    def update(
        self, seconds: float, boxes: list[Box], probabilities: np.ndarray, picture: Image.Image | None = None
    ) -> list[tuple[int, np.ndarray]]:
        """Add a frame.

        Args:
            seconds: time of the frame, not before the last frame.
            boxes: (left, top, width, height) of each face.
            probabilities: float (faces, classes).
            picture: the frame, to look for a cut; None if no cut is possible.

        Returns:
            For each face its number, from 1 and the same in all frames, and its smoothed probabilities.
        """
        if picture is not None and self._is_cut(seconds, picture):
            self._tracks = []
        known = [track for track in self._tracks if seconds - track.seconds <= self._forget]
        costs = [(_cost(track, box, seconds), t, b) for t, track in enumerate(known) for b, box in enumerate(boxes)]
        track_of: dict[int, _Track] = {}
        taken: set[int] = set()
        for cost, t, b in sorted(costs):  # the best match first
            if cost < math.inf and t not in taken and b not in track_of:
                track_of[b] = known[t]
                taken.add(t)
        smoothed = []
        for b, (box, new) in enumerate(zip(boxes, probabilities, strict=True)):
            track = track_of.get(b)
            if track is None:
                self._count += 1
                track = _Track(self._count, box, new, seconds)
                known.append(track)
            elapsed = seconds - track.seconds
            track.probabilities = track.probabilities + _weight(elapsed, SMOOTHING_SECONDS) * (
                new - track.probabilities
            )
            if elapsed > 0:
                velocity = (_centre(box) - _centre(track.box)) / elapsed
                track.velocity = track.velocity + _weight(elapsed, _VELOCITY_SECONDS) * (velocity - track.velocity)
            track.box, track.seconds = box, seconds
            smoothed.append((track.number, track.probabilities))
        self._tracks = known
        return smoothed

    def _is_cut(self, seconds: float, picture: Image.Image) -> bool:
        small = picture.resize(_THUMBNAIL, Image.Resampling.BILINEAR, reducing_gap=1.0).convert("L")
        before, self._thumbnail = self._thumbnail, np.asarray(small, np.float32)
        elapsed, self._seconds = seconds - self._seconds, seconds
        if before is None or elapsed > _CUT_SECONDS or np.abs(self._thumbnail - before).mean() < _CUT_DIFFERENCE:
            return False
        a, b = before - before.mean(), self._thumbnail - self._thumbnail.mean()
        return float((a * b).sum()) < _CUT_CORRELATION * math.sqrt(float((a * a).sum() * (b * b).sum()))


def _weight(elapsed: float, time_constant: float) -> float:
    return 1 - math.exp(-elapsed / time_constant)


def _centre(box: Box) -> np.ndarray:
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def _cost(track: _Track, box: Box, seconds: float) -> float:
    """Distance of a box from a face's expected place, in sides of the face; infinite if it cannot be this face."""
    side, new_side = (math.sqrt(max(1, b[2] * b[3])) for b in (track.box, box))
    ratio = max(side, new_side) / min(side, new_side)
    elapsed, moved = seconds - track.seconds, _centre(box) - _centre(track.box)
    drift = track.velocity * min(elapsed, _COAST_SECONDS)
    mean_side = (side + new_side) / 2
    # A hidden face may also have stopped. The penalty keeps it from swapping numbers with a face that passes.
    stopped = float(np.hypot(*moved)) / mean_side + _STOPPED_PENALTY
    distance = min(float(np.hypot(*(moved - drift))) / mean_side, stopped)
    if ratio > _SAME_FACE_RATIO or distance > _SAME_FACE_DISTANCE + _DISTANCE_A_SECOND * elapsed:
        return math.inf
    return distance + 0.5 * math.log(ratio)
