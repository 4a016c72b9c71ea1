"""Follows faces from frame to frame and averages their scores over time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from fer_tf.faces.crops import Box

SMOOTHING_SECONDS = 0.5  # time constant of the exponential average of a face's scores
_FORGET_SECONDS = 1.0  # a face that was not seen for this long counts as a new face
_SAME_FACE_OVERLAP = 0.3  # least intersection over union of a face's boxes in two successive frames


@dataclasses.dataclass
class _Track:
    number: int
    box: Box
    probabilities: np.ndarray
    seconds: float


class Smoother:
    """Follows faces from frame to frame and averages the scores of each with exponentially falling weights.

    The weight of a score that is t seconds old is exp(-t / SMOOTHING_SECONDS), whatever the frame rate.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._count = 0

    def update(self, seconds: float, boxes: list[Box], probabilities: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Add a frame.

        Args:
            seconds: time of the frame, not before that of the last one.
            boxes: (left, top, width, height) of each face.
            probabilities: float (faces, classes).

        Returns:
            For each face its number, counted from 1 and the same in all frames, and its smoothed probabilities.
        """
        known = [track for track in self._tracks if seconds - track.seconds <= _FORGET_SECONDS]
        pairs = [(_overlap(track.box, box), t, b) for t, track in enumerate(known) for b, box in enumerate(boxes)]
        track_of: dict[int, _Track] = {}
        taken: set[int] = set()
        for overlap, t, b in sorted(pairs, reverse=True):  # the best match first
            if overlap >= _SAME_FACE_OVERLAP and t not in taken and b not in track_of:
                track_of[b] = known[t]
                taken.add(t)
        smoothed = []
        for b, (box, new) in enumerate(zip(boxes, probabilities, strict=True)):
            track = track_of.get(b)
            if track is None:
                self._count += 1
                track = _Track(self._count, box, new, seconds)
                known.append(track)
            weight = 1 - math.exp(-(seconds - track.seconds) / SMOOTHING_SECONDS)
            track.probabilities = track.probabilities + weight * (new - track.probabilities)
            track.box, track.seconds = box, seconds
            smoothed.append((track.number, track.probabilities))
        self._tracks = known
        return smoothed


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
