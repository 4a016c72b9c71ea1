"""Section: the settings, and both phases in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fer_tf.config import Config
from fer_tf.report.document import Block, Folded, Paragraph, Table
from fer_tf.report.facts import Facts
from fer_tf.text import quantity, setting


def configuration(facts: Facts) -> list[Block]:
    known = {field.name: field.metadata["help"] for field in dataclasses.fields(Config)}
    rows = [(name, setting(facts.config[name]), meaning) for name, meaning in known.items() if name in facts.config]
    table = Table(("setting", "value", "meaning"), rows, "lll")
    return [Paragraph(_strategy(facts.config)), Folded("All settings", [table])]


def _strategy(config: Mapping[str, Any]) -> str:
    """Describe both phases from the settings."""
    settings = {**Config().to_dict(), **config}
    scratch = settings["weights"] == "none"
    grows = 0 < settings["initial_image_size"] < settings["image_size"] and settings["resizing_epochs"]
    parts = []
    if scratch:
        parts.append(
            "The weights start at random, so there is no frozen phase: a frozen random backbone learns nothing."
        )
    elif settings["frozen_epochs"]:
        parts.append(
            f"The backbone starts from the weights {settings['weights']}. Phase 1 trains the new head alone for "
            f"{quantity(settings['frozen_epochs'], 'epoch')} at a learning rate of "
            f"{settings['frozen_learning_rate']:g}, with the backbone frozen."
        )
    else:
        parts.append(f"The backbone starts from the weights {settings['weights']}; the frozen phase is left out.")
    if settings["epochs"]:
        stop = settings["early_stopping_patience"]
        warm_up = f" after {quantity(settings['warmup_epochs'], 'epoch')} of warm-up"
        schedule = {
            "plateau": f"multiplied by {settings['plateau_factor']:g} after "
            f"{quantity(settings['plateau_patience'], 'epoch')} without a better validation loss",
            "cosine": f"falling along a cosine{warm_up if settings['warmup_epochs'] else ''}",
            "constant": "constant",
        }.get(settings["schedule"], str(settings["schedule"]))
        parts.append(
            f"{'All layers are trained' if scratch else 'Phase 2 trains all layers'} for {'at most ' if stop else ''}"
            f"{quantity(settings['epochs'], 'epoch')} (BatchNorm "
            f"{'trained too' if settings['train_batch_norm'] else 'fixed'}) at a peak learning rate of "
            f"{settings['learning_rate']:g}, {schedule}"
            + (f"; it ends after {quantity(stop, 'epoch')} without a better validation accuracy." if stop else ".")
        )
        if grows:
            parts.append(
                f"The first {quantity(settings['resizing_epochs'], 'epoch')} of these see smaller images, from "
                f"{settings['initial_image_size']} pixels a side upwards, the others {settings['image_size']} pixels."
            )
    weights = {
        "balanced": "The loss weights each class by n / (classes x count).",
        "sqrt": "The loss weights each class by the root of n / (classes x count).",
        "none": "The loss is not weighted by class.",
    }.get(settings["class_weights"], "")
    parts.append(
        f"The optimiser is {settings['optimizer']} with batches of {settings['batch_size']} and weight decay "
        f"{settings['weight_decay']:g}. {weights}"
    )
    parts.append(
        f"The epoch with the best validation accuracy over all phases{' at the full size' if grows else ''} is kept."
    )
    return " ".join(parts)
