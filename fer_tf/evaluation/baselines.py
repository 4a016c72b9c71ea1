"""Baselines that a network must beat: the most frequent class, and a linear model on pixels."""

from __future__ import annotations

import numpy as np

from fer_tf.errors import InputError


def majority_baseline(train_labels: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of a model that always predicts the most frequent training class.

    Args:
        train_labels: int (m,).
        labels: int (n,), labels of the split to score.
    """
    if not len(train_labels) or not len(labels):
        raise InputError(
            f"a baseline got {len(train_labels)} training and {len(labels)} test labels; expected one or more"
        )
    return float(np.mean(labels == np.bincount(train_labels).argmax()))


def linear_baseline(
    train_images: np.ndarray, train_labels: np.ndarray, images: np.ndarray, labels: np.ndarray
) -> float:
    """Accuracy of a linear model on the pixels (multinomial logistic regression, L2).

    Args:
        train_images: uint8 (m, height, width).
        train_labels: int (m,), at least two classes.
        images: uint8 (n, height, width), the split to score.
        labels: int (n,).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_labels)) < 2:
        raise InputError("a linear baseline got training labels of one class; expected at least two")
    # Strong regularisation: 2,304 features can memorise a few thousand images. A finer tolerance gains nothing.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, tol=1e-2, max_iter=200))
    model.fit(train_images.reshape(len(train_images), -1).astype(np.float32), train_labels)
    return float(model.score(images.reshape(len(images), -1).astype(np.float32), labels))
