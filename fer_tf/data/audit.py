"""Audit of a data set: class balance, grey values, blank images, exact and near duplicates within and across splits,
and copies that carry different labels. NumPy only.
"""

from __future__ import annotations

import hashlib
import logging
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fer_tf.data.dataset import Dataset
from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE, SPLITS
from fer_tf.text import quantity

logger = logging.getLogger(__name__)

# Two different images are near duplicates if the correlation of their pixels is at least this. In samples from
# FER-2013, all pairs above 0.92 show the same photograph (re-encoded, re-cropped, watermarked); below 0.92, some pairs
# show different faces that only look alike.
NEAR_CORRELATION = 0.95
# The search compares block means, this many a side, which is 16 times cheaper. Averaging removes noise, so the means
# rarely correlate less than the pixels (never below 0.968 for FER-2013's pairs above 0.95).
SEARCH_SIZE = 12
NEAR_METHOD = (
    f"each image is compared with the one whose {SEARCH_SIZE}x{SEARCH_SIZE} block means are most similar; the two are "
    f"near duplicates if the correlation of all {IMAGE_SIZE**2:,} pixels is at least {NEAR_CORRELATION}; exact copies "
    "count once, blank images are left out"
)
# Bounds on the mean and the standard deviation of an image's grey values. Beyond them a face is hardly visible.
DARK_BELOW = 40
BRIGHT_ABOVE = 215
FLAT_BELOW = 15
_ORIGINALS_SHOWN = 5
_BLOCK = 512  # images compared with all others at a time; limits the memory


def image_hashes(images: np.ndarray) -> list[str]:
    """Return fingerprints: two images have equal fingerprints if and only if they are equal.

    Args:
        images: uint8 (n, 48, 48), grey.

    Returns:
        For each image the SHA-256 of its 2,304 bytes, in hexadecimal.
    """
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in np.asarray(images, dtype=np.uint8)]


def among(images: np.ndarray, hashes: Iterable[str]) -> np.ndarray:
    """Find the images whose exact pixels have one of the fingerprints.

    Args:
        images: uint8 (n, 48, 48), grey.
        hashes: fingerprints from `image_hashes`.

    Returns:
        bool (n,), True for these images.
    """
    known = set(hashes)
    return np.array([digest in known for digest in image_hashes(images)], bool)


def audit(dataset: Dataset) -> dict[str, Any]:
    """Audit a data set. The findings are not rounded, because rounding twice can change the last digit.

    Args:
        dataset: faces as images or as pixel strings; at least one.

    Returns:
        A dict that JSON can hold: `source`, `sha256`, `synthetic`, `class_names`, `count`; `image` (resolution,
        channels; range, mean and standard deviation of the pixel values); `read` (the folders, whether the pictures
        are crops or photographs, what was left out and why); `bounds` (the limits for dark, bright and flat images);
        `splits` (for each: counts, shares, imbalance, brightness and contrast by class, blank images, surplus copies);
        `exact` and `near` (duplicates over all rows and between splits).

    Raises:
        InputError: if the data set has no image.
    """
    if len(dataset) == 0:
        raise InputError(f"{dataset.source or 'the data set'} has no image: expected at least one to audit")
    logger.info("audit: %s images", f"{len(dataset):,}")
    images = dataset.decoded().images
    assert images is not None
    labels = np.asarray(dataset.labels)
    rows_of = {split: np.asarray(dataset.split) == split for split in SPLITS if dataset.has(split)}

    logger.debug("audit: grey values")
    flat = images.reshape(len(images), -1)
    brightness, contrast = _grey_values(flat)
    blank = flat.min(axis=1) == flat.max(axis=1)
    std = np.sqrt(np.square(contrast).mean() + brightness.var())  # over the pixels of all images together

    logger.debug("audit: exact duplicates")
    number: dict[str, int] = {}
    # (n,): two images have the same number if and only if they are equal
    identity = np.array([number.setdefault(digest, len(number)) for digest in image_hashes(images)])

    logger.debug("audit: near duplicates among %s different images", f"{len(number):,}")
    return {
        "source": dataset.source,
        "sha256": dataset.sha256,
        "synthetic": bool(dataset.synthetic),
        "class_names": list(dataset.class_names),
        "count": len(images),
        "image": {
            "height": images.shape[1],
            "width": images.shape[2],
            "channels": 1,
            "bits": 8 * images.itemsize,
            "minimum": int(flat.min()),
            "maximum": int(flat.max()),
            "mean": float(brightness.mean()),
            "std": float(std),
            "originals": dict(dataset.originals),
        },
        "read": {
            "from": {split: _folder_of(dataset.files[rows]) for split, rows in rows_of.items()}
            if dataset.files is not None
            else {},
            "faces": dataset.crop["faces"] if dataset.crop else None,
            "left_out": dict(dataset.left_out),
            "names_splits": not dataset.unsplit,
        },
        "bounds": {"dark": DARK_BELOW, "bright": BRIGHT_ABOVE, "flat": FLAT_BELOW},
        "splits": {
            split: {
                **_class_findings(labels[rows], brightness[rows], contrast[rows], num_classes=len(dataset.class_names)),
                "blank": int(blank[rows].sum()),
                "dark": int((brightness[rows] < DARK_BELOW).sum()),
                "bright": int((brightness[rows] > BRIGHT_ABOVE).sum()),
                "flat": int((contrast[rows] < FLAT_BELOW).sum()),
                "unique": len(np.unique(identity[rows])),
                "surplus": int(rows.sum()) - len(np.unique(identity[rows])),
            }
            for split, rows in rows_of.items()
        },
        "exact": _exact_findings(identity, labels, rows_of, dataset.class_names),
        "near": _near_findings(flat, identity, labels, rows_of, blank),
    }


def _folder_of(files: np.ndarray) -> str:
    """Return the folder that all files of a split share, empty if they share none."""
    folders = {posixpath.dirname(file) for file in files}
    if len({posixpath.isabs(folder) for folder in folders}) > 1:  # possible in a table of paths
        return ""
    folder = posixpath.commonpath(folders) if folders != {""} else "."
    return f"{folder}/" if folder else ""


def read_text(read: dict[str, Any]) -> list[str]:
    """Describe how a folder was read: from where, as crops or photographs, what was left out and why.

    Args:
        read: the findings' part `read`.
    """
    lines = []
    if read.get("from"):
        places = [f"{split} from {folder or 'several folders'}" for split, folder in read["from"].items()]
        if not read["names_splits"]:
            lines.append("read: pictures without splits (train cuts validation and test from them)")
        elif any(read["from"].values()):
            lines.append(f"read: {', '.join(places)}")
        else:
            lines.append("read: pictures of several folders")
    if read.get("faces"):
        kinds = {"whole": "as crops", "detect": "as photographs, from each the most prominent face"}
        lines.append(f"taken {kinds.get(read['faces'], read['faces'])}")
    if read.get("left_out"):
        lines.append(f"left out: {'; '.join(f'{count:,} {reason}' for reason, count in read['left_out'].items())}")
    return lines


def originals_text(originals: dict[str, int]) -> str:
    """Format the sizes and colours of a folder's files, the most frequent first: `48x48 grey (12), ...`."""
    shown = [f"{form} ({count:,})" for form, count in list(originals.items())[:_ORIGINALS_SHOWN]]
    others = sum(list(originals.values())[_ORIGINALS_SHOWN:])
    return ", ".join([*shown, f"{others:,} of other forms"] if others else shown)


def audit_text(findings: dict[str, Any]) -> str:
    """Format the findings of `audit`.

    Args:
        findings: the result of `audit`, also if it was read back from JSON.
    """
    image, splits, exact, near, bounds = (findings[key] for key in ("image", "splits", "exact", "near", "bounds"))
    synthetic = " (synthetic faces, drawn by a program)" if findings["synthetic"] else ""
    lines = [
        f"Data: {findings['source']}{synthetic}, {quantity(findings['count'], 'image')}",
        f"  every image {image['width']}x{image['height']} pixels, {image['channels']} channel (grey), "
        f"{image['bits']} bits; values {image['minimum']} to {image['maximum']}, "
        f"mean {image['mean']:.1f}, standard deviation {image['std']:.1f}",
    ]
    if image.get("originals"):
        lines.append(f"  the pictures were {originals_text(image['originals'])}")
    lines += [f"  {line}" for line in read_text(findings.get("read", {}))]
    width = max(len("class"), *map(len, findings["class_names"]))
    for split, found in splits.items():
        ratio = found["imbalance_ratio"]
        balance = f"largest class {ratio:.1f} times the smallest" if ratio else "a class has no image"
        lines += [
            "",
            f"{split}: {quantity(found['count'], 'image')}, {balance}",
            f"  {'class':{width}}  images   share  brightness  contrast",
        ]
        for name, count, share, brightness, contrast in zip(
            findings["class_names"],
            found["class_counts"],
            found["class_shares"],
            found["brightness"],
            found["contrast"],
            strict=True,
        ):
            grey = f"{brightness:10.1f}  {contrast:8.1f}" if count else f"{'-':>10}  {'-':>8}"
            lines.append(f"  {name:{width}}  {count:6d}  {share:6.1%}  {grey}")
        lines += [
            f"  blank (all pixels equal): {found['blank']:,}",
            f"  very dark (mean below {bounds['dark']}): {found['dark']:,}; very bright (above {bounds['bright']}): "
            f"{found['bright']:,}; hardly any contrast (standard deviation below {bounds['flat']}): {found['flat']:,}",
            f"  surplus exact copies: {found['surplus']:,}",
        ]
    lines += [
        "",
        "Exact duplicates (all pixels equal)",
        f"  different images: {exact['unique']:,} of {findings['count']:,}",
        f"  groups of copies: {exact['groups']:,} (largest {exact['largest']})",
        f"  groups with conflicting labels: {exact['conflicting']:,}",
        *(f"    {' / '.join(conflict['labels'])}: {conflict['groups']}" for conflict in exact["conflicts"]),
        *(f"  {pair['split']} images that are also in {pair['in']}: {pair['images']:,}" for pair in exact["across"]),
        "",
        f"Near duplicates: {near['method']}",
        *(
            f"  within {found['split']}: {found['images']:,} ({found['conflicting']:,} with another label)"
            for found in near["within"]
        ),
        *(
            f"  {found['split']} images with a near duplicate in {found['in']}: {found['images']:,} "
            f"({found['conflicting']:,} with another label)"
            for found in near["across"]
        ),
    ]
    return "\n".join(lines) + "\n"


def _grey_values(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each image's pixels: twice float64 (n,), from uint8 (n, 2304)."""
    total = flat.sum(axis=1, dtype=np.int64)
    # einsum sums in float64 without a float64 copy of all images.
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.int64)
    mean = total / flat.shape[1]
    return mean, np.sqrt(np.maximum(squares / flat.shape[1] - mean**2, 0))


def _class_findings(
    labels: np.ndarray, brightness: np.ndarray, contrast: np.ndarray, *, num_classes: int
) -> dict[str, Any]:
    """Balance and grey values of one split by class; the grey values of a class without images are None."""
    counts = np.bincount(labels, minlength=num_classes)

    def means(values: np.ndarray) -> list[float | None]:
        return [float(values[labels == label].mean()) if counts[label] else None for label in range(num_classes)]

    return {
        "count": len(labels),
        "class_counts": counts.tolist(),
        "class_shares": [count / len(labels) for count in counts.tolist()],
        # The largest class divided by the smallest; None if a class has no image.
        "imbalance_ratio": float(counts.max() / counts.min()) if counts.min() else None,
        "brightness": means(brightness),
        "contrast": means(contrast),
    }


def _across(splits: Sequence[str]) -> list[tuple[str, str]]:
    """Pair each split with each earlier split: validation with train, test with train, test with validation."""
    return [(later, earlier) for place, later in enumerate(splits) for earlier in splits[:place]]


def _exact_findings(
    identity: np.ndarray, labels: np.ndarray, rows_of: dict[str, np.ndarray], class_names: Sequence[str]
) -> dict[str, Any]:
    """Count exact duplicates; `identity` (n,) numbers the different images from 0."""
    copies = np.bincount(identity)
    seen: dict[int, set[int]] = {}
    for image, label in zip(identity.tolist(), labels.tolist(), strict=True):
        seen.setdefault(image, set()).add(label)
    conflicts = Counter(tuple(sorted(found)) for found in seen.values() if len(found) > 1)
    return {
        "unique": len(copies),
        "surplus": len(identity) - len(copies),
        "groups": int((copies > 1).sum()),
        "largest": int(copies.max()),
        "conflicting": conflicts.total(),
        "conflicts": [
            {"labels": [class_names[label] for label in found], "groups": groups}
            for found, groups in sorted(conflicts.items(), key=lambda item: (-item[1], item[0]))
        ],
        "across": [
            {
                "split": later,
                "in": earlier,
                "images": int(np.isin(identity[rows_of[later]], identity[rows_of[earlier]]).sum()),
            }
            for later, earlier in _across(list(rows_of))
        ],
    }


def _near_findings(
    flat: np.ndarray, identity: np.ndarray, labels: np.ndarray, rows_of: dict[str, np.ndarray], blank: np.ndarray
) -> dict[str, Any]:
    """Count the images of each split with a near duplicate (`NEAR_METHOD`) in the same or an earlier split.

    An image with several exact copies has the label of the first.
    """
    _, first = np.unique(identity, return_index=True)
    first = first[~blank[first]]  # one row of each different image
    members = {split: np.isin(identity[first], identity[rows]) for split, rows in rows_of.items()}
    means = _block_means(flat[first])

    def findings(queries: np.ndarray, gallery: np.ndarray) -> dict[str, int]:
        nearest, near = _nearest(means, flat, first, queries, gallery)
        other_label = labels[first[queries]] != labels[first[nearest]]
        return {"images": int(near.sum()), "conflicting": int((near & other_label).sum())}

    within, across = [], []
    for split, member in members.items():
        inside = np.nonzero(member)[0]
        within.append({"split": split, **findings(inside, inside)})
    for later, earlier in _across(list(members)):
        only_later = np.nonzero(members[later] & ~members[earlier])[0]  # exact copies are counted apart
        across.append({"split": later, "in": earlier, **findings(only_later, np.nonzero(members[earlier])[0])})
    return {"method": NEAR_METHOD, "threshold": NEAR_CORRELATION, "within": within, "across": across}


def _block_means(flat: np.ndarray) -> np.ndarray:
    """Standardised block means, float32 (n, 144); the product of two rows is their correlation."""
    block = IMAGE_SIZE // SEARCH_SIZE
    means = flat.reshape(len(flat), SEARCH_SIZE, block, SEARCH_SIZE, block).mean(axis=(2, 4), dtype=np.float32)
    return _standardised(means.reshape(len(flat), SEARCH_SIZE**2))


def _standardised(values: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and length 1; constant rows become 0."""
    centred = values - values.mean(axis=1, keepdims=True, dtype=np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(length > 0, length, 1)


def _nearest(
    means: np.ndarray, flat: np.ndarray, row_of: np.ndarray, queries: np.ndarray, gallery: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the most similar other image of the gallery for each query.

    Args:
        means: float32 (m, 144), standardised block means.
        flat: uint8 (n, 2304), all pixels of all rows.
        row_of: int (m,), the row in `flat` of each row in `means`.
        queries: int (q,), rows of `means`.
        gallery: int (g,), rows of `means`, sorted; may contain the queries.

    Returns:
        int (q,), rows of `means`; bool (q,), True if the two are near duplicates.
    """
    nearest, near = queries.copy(), np.zeros(len(queries), dtype=bool)
    if len(gallery) == 0:
        return nearest, near
    gallery_means = means[gallery]
    for start in range(0, len(queries), _BLOCK):
        part = queries[start : start + _BLOCK]
        correlation = means[part] @ gallery_means.T  # (block, g)
        place = np.searchsorted(gallery, part).clip(max=len(gallery) - 1)
        itself = gallery[place] == part
        correlation[np.nonzero(itself)[0], place[itself]] = -2
        found = gallery[correlation.argmax(axis=1)]
        ours, theirs = (_standardised(flat[row_of[chosen]].astype(np.float32)) for chosen in (part, found))
        nearest[start : start + _BLOCK] = found
        near[start : start + _BLOCK] = ((ours * theirs).sum(axis=1) >= NEAR_CORRELATION) & (found != part)
    return nearest, near
