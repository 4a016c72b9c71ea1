"""The audit on small data sets whose findings can be counted by hand."""

import hashlib
import json

import numpy as np
import pytest

from fer_tf.data import audit as audit_module
from fer_tf.data.audit import audit, audit_text, image_hashes
from fer_tf.data.dataset import Dataset
from fer_tf.errors import InputError

pytestmark = pytest.mark.light


def make_dataset(rows, *, class_names=("angry", "happy", "sad"), **fields):
    """A Dataset from (split, label, image) rows."""
    splits, labels, images = zip(*rows, strict=True)
    return Dataset(
        labels=np.array(labels, np.int64),
        split=np.array(splits),
        class_names=class_names,
        images=np.stack(images).astype(np.uint8),
        source="faces.csv",
        **fields,
    )


def noise(seed):
    """Images of independent noise: unrelated to each other, far from blank."""
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def smooth(seed):
    """Unrelated images with the structure of a picture: large areas of one grey."""
    return np.kron(np.random.default_rng(seed).integers(40, 215, (8, 8)), np.ones((6, 6))).astype(np.uint8)


def small_dataset():
    black = np.zeros((48, 48))
    return make_dataset(
        [
            ("train", 0, noise(1)),
            ("train", 0, noise(1)),  # a surplus copy
            ("train", 1, noise(1)),  # another, with a conflicting label
            ("train", 1, noise(2)),
            ("train", 1, black),
            ("train", 1, np.full((48, 48), 255)),
            ("validation", 0, noise(2)),  # also in train, with another label
            ("validation", 2, noise(3)),
            ("validation", 2, noise(3)),
            ("test", 0, noise(2)),  # in train and in validation
            ("test", 1, noise(3)),  # in validation alone
            ("test", 2, noise(4)),
            ("test", 2, black),  # in train
        ],
        sha256="ab",
    )


def test_hashes_are_those_of_the_raw_bytes_and_do_not_depend_on_the_memory_layout():
    images = np.stack([noise(1), noise(2), noise(1)])
    hashes = image_hashes(images)
    assert hashes == [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    assert hashes[0] == hashes[2] != hashes[1]
    assert image_hashes(np.asfortranarray(images)) == hashes
    assert image_hashes(images[:0]) == []


def test_counts_shares_and_balance_of_each_split():
    findings = audit(small_dataset())
    assert findings["count"] == 13
    assert list(findings["splits"]) == ["train", "validation", "test"]
    train = findings["splits"]["train"]
    assert train["count"] == 6
    assert train["class_counts"] == [2, 4, 0]
    assert train["class_shares"] == [1 / 3, 2 / 3, 0.0]
    assert train["imbalance_ratio"] is None  # no sad image
    assert findings["splits"]["test"]["class_counts"] == [1, 1, 2]
    assert findings["splits"]["test"]["imbalance_ratio"] == 2.0


def test_figures_are_rounded_once():
    """FER-2013 has 7,215 happy faces for 436 of disgust: 16.548 times as many, which is 16.5 and not 16.6."""
    blank = np.zeros((48, 48), np.uint8)
    findings = audit(make_dataset([("train", 0, blank)] * 11 + [("train", 1, blank)] * 182, class_names=("a", "b")))
    assert findings["splits"]["train"]["imbalance_ratio"] == 182 / 11  # 16.5454...
    assert "largest class 16.5 times the smallest" in audit_text(findings)


def test_grey_values_by_class():
    half = np.repeat([[0], [200]], 24, axis=0) * np.ones((1, 48))
    findings = audit(make_dataset([("train", 0, half), ("train", 0, half + 50), ("train", 1, np.full((48, 48), 30))]))
    train = findings["splits"]["train"]
    assert train["brightness"] == [125.0, 30.0, None]
    assert train["contrast"] == [100.0, 0.0, None]
    assert (train["blank"], train["dark"], train["bright"], train["flat"]) == (1, 1, 0, 1)
    image = findings["image"]
    assert (image["width"], image["height"], image["channels"], image["bits"]) == (48, 48, 1, 8)
    assert (image["minimum"], image["maximum"]) == (0, 250)


def test_mean_and_deviation_are_those_of_all_pixels():
    images = np.stack([noise(seed) // (seed + 1) for seed in range(5)])
    found = audit(make_dataset([("train", 0, image) for image in images]))["image"]
    assert found["mean"] == pytest.approx(images.mean(), abs=0.006)
    assert found["std"] == pytest.approx(images.std(), abs=0.006)


def test_exact_duplicates_within_and_across_splits():
    findings = audit(small_dataset())
    exact = findings["exact"]
    assert exact["unique"] == 6  # noise 1 to 4, black, white
    assert exact["surplus"] == 7
    assert exact["groups"] == 4
    assert exact["largest"] == 3
    assert exact["conflicting"] == 4
    assert exact["conflicts"] == [
        {"labels": ["angry", "happy"], "groups": 2},
        {"labels": ["happy", "sad"], "groups": 2},
    ]
    assert exact["across"] == [
        {"split": "validation", "in": "train", "images": 1},
        {"split": "test", "in": "train", "images": 2},
        {"split": "test", "in": "validation", "images": 2},
    ]
    assert [findings["splits"][split]["surplus"] for split in ("train", "validation", "test")] == [2, 1, 0]
    assert [findings["splits"][split]["blank"] for split in ("train", "validation", "test")] == [2, 0, 1]


def test_near_duplicates_are_found_and_exact_or_blank_ones_are_not_counted_again():
    face = smooth(1)
    brighter = np.clip(face * 1.05 + 8, 0, 255)  # correlation 1: brightness and contrast do not matter
    watermarked = face.copy()
    watermarked[20:24, 4:44] = 255
    findings = audit(
        make_dataset(
            [
                ("train", 0, face),
                ("train", 0, face),
                ("train", 1, brighter),
                ("train", 0, smooth(2)),
                ("train", 0, np.zeros((48, 48))),
                ("train", 0, np.full((48, 48), 9)),
                ("validation", 0, face),  # exact: not near
                ("validation", 0, smooth(2) + 1),
                ("validation", 1, smooth(3)),
                ("test", 1, watermarked),
            ]
        )
    )
    near = findings["near"]
    assert near["within"] == [
        {"split": "train", "images": 2, "conflicting": 2},
        {"split": "validation", "images": 0, "conflicting": 0},
        {"split": "test", "images": 0, "conflicting": 0},
    ]
    correlation = np.corrcoef(face.ravel(), watermarked.ravel())[0, 1]
    twins = int(correlation >= near["threshold"])
    assert near["across"][0] == {"split": "validation", "in": "train", "images": 1, "conflicting": 0}
    assert near["across"][1]["images"] == twins
    assert "0.95" in near["method"] and "12x12" in near["method"]


def test_near_duplicates_at_the_threshold():
    """A copy blended with noise is a near duplicate exactly if the correlation of the pixels says so."""
    face, other = smooth(1).astype(float), noise(9).astype(float)
    outcomes = set()
    for share in (0.1, 0.15, 0.2, 0.25, 0.3, 0.4):
        twin = np.rint((1 - share) * face + share * other).astype(np.uint8)
        findings = audit(make_dataset([("train", 0, face), ("test", 0, twin)]))
        near = np.corrcoef(face.ravel(), twin.ravel())[0, 1] >= audit_module.NEAR_CORRELATION
        assert findings["near"]["across"][0]["images"] == int(near), share
        outcomes.add(bool(near))
    assert outcomes == {True, False}


def test_the_search_in_blocks_finds_what_one_block_finds(monkeypatch):
    rows = [("train", seed % 3, smooth(seed // 2) + seed % 2) for seed in range(20)]
    rows += [("validation", seed % 3, smooth(seed) + 2) for seed in range(7, 14)]
    whole = audit(make_dataset(rows))["near"]
    monkeypatch.setattr(audit_module, "_BLOCK", 3)
    assert audit(make_dataset(rows))["near"] == whole
    assert whole["within"][0]["images"] == 20
    assert whole["across"][0]["images"] == 3


def test_one_image_alone_and_pixel_strings():
    image = noise(1)
    pixels = np.array([" ".join(map(str, image.ravel()))], dtype=object)
    dataset = Dataset(np.array([0]), np.array(["test"]), ("angry", "happy"), pixels=pixels, source="one.csv")
    findings = audit(dataset)
    assert findings["count"] == findings["exact"]["unique"] == 1
    assert findings["exact"]["across"] == findings["near"]["across"] == []
    assert findings["near"]["within"] == [{"split": "test", "images": 0, "conflicting": 0}]
    assert findings["image"]["mean"] == pytest.approx(image.mean(), abs=0.006)


def test_no_image_is_an_input_error():
    empty = Dataset(
        np.zeros(0, np.int64), np.zeros(0, str), ("a", "b"), images=np.zeros((0, 48, 48), np.uint8), source="x"
    )
    with pytest.raises(InputError, match="x has no image"):
        audit(empty)


def test_findings_survive_json():
    findings = audit(small_dataset())
    assert json.loads(json.dumps(findings, allow_nan=False)) == findings


def test_findings_as_text():
    dataset = make_dataset(
        [
            ("train", 0, np.zeros((48, 48))),
            ("train", 1, np.full((48, 48), 100)),
            ("train", 1, np.zeros((48, 48))),
            ("test", 1, np.zeros((48, 48))),
        ],
        class_names=("calm", "a long name"),
        synthetic=True,
    )
    assert audit_text(audit(dataset)) == (
        """\
Data: faces.csv (synthetic faces, drawn by a program), 4 images
  every image 48x48 pixels, 1 channel (grey), 8 bits; values 0 to 100, mean 25.0, standard deviation 43.3

train: 3 images, largest class 2.0 times the smallest
  class        images   share  brightness  contrast
  calm              1   33.3%         0.0       0.0
  a long name       2   66.7%        50.0       0.0
  blank (all pixels equal): 3
  very dark (mean below 40): 2; very bright (above 215): 0; hardly any contrast (standard deviation below 15): 3
  surplus exact copies: 1

test: 1 image, a class has no image
  class        images   share  brightness  contrast
  calm              0    0.0%           -         -
  a long name       1  100.0%         0.0       0.0
  blank (all pixels equal): 1
  very dark (mean below 40): 1; very bright (above 215): 0; hardly any contrast (standard deviation below 15): 1
  surplus exact copies: 0

Exact duplicates (all pixels equal)
  different images: 2 of 4
  groups of copies: 1 (largest 3)
  groups with conflicting labels: 1
    calm / a long name: 1
  test images that are also in train: 1

Near duplicates: """
        + audit_module.NEAR_METHOD
        + """
  within train: 0 (0 with another label)
  within test: 0 (0 with another label)
  test images with a near duplicate in train: 0 (0 with another label)
"""
    )
