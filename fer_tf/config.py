"""Every number that changes a training run as one frozen dataclass, the named recipes, and the flags of its fields."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from fer_tf.errors import InputError


def _field(
    default: Any, text: str, *, choices: tuple[str, ...] = (), low: float | None = None, high: float | None = None
) -> Any:
    """A field with its help text and what it admits: one of `choices`, or a number in [low, high]."""
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices, "low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run's settings; the defaults are the training report's recipe."""

    # Model
    image_size: int = _field(
        224, "side of the network's input, pixels; 48x48 faces are enlarged to it", low=32, high=512
    )
    weights: str = _field(
        "imagenet",
        "imagenet (downloaded) | imagenet-lite0 (EfficientNet-Lite0's, from a pip package) | fer2013 (the shipped "
        "model) | none | a .h5 of ImageNet no-top weights | a .keras of fer_tf",
    )
    dropout: float = _field(0.3, "share of pooled features dropped in the head", low=0, high=0.95)
    stochastic_depth: float = _field(
        0.2, "drop rate of the last residual block, rising linearly to it", low=0, high=0.95
    )
    batch_norm_momentum: float = _field(0.99, "share of the old moving statistic kept at each step", low=0, high=0.9999)
    stem_stride: int = _field(2, "stride of the first convolution: 1 keeps four times the feature maps", low=1, high=2)
    round_kernels: bool = _field(
        False, "round the kernels that win to float16's values before scoring, so that the .keras packs to half"
    )

    # Phases
    frozen_epochs: int = _field(3, "epochs of phase 1: backbone frozen, head only; skipped with --weights none", low=0)
    epochs: int = _field(40, "most epochs of phase 2: all layers", low=0)
    train_batch_norm: bool = _field(True, "phase 2 trains BatchNorm too; otherwise its statistics stay fixed")
    cache_features: bool = _field(False, "phase 1 from features computed once, without augmentation")
    early_stopping_patience: int = _field(
        8, "epochs without a better validation accuracy before phase 2 ends; 0: never", low=0
    )
    initial_image_size: int = _field(
        0, "progressive resizing: size of phase 2's first epochs, pixels; 0: off", low=0, high=512
    )
    resizing_epochs: int = _field(0, "epochs over which the size rises to image_size, in steps of 16 pixels", low=0)

    # Optimisation
    batch_size: int = _field(32, "images a step", low=1)
    optimizer: str = _field("adamw", "optimiser", choices=("adamw", "sgd", "muon"))
    momentum: float = _field(0.9, "Nesterov momentum of sgd and muon", low=0, high=0.9999)
    learning_rate: float = _field(1e-4, "peak learning rate of phase 2", low=0)
    frozen_learning_rate: float = _field(1e-4, "learning rate of phase 1, constant there", low=0)
    weight_decay: float = _field(1e-4, "decoupled weight decay of all kernels (AdamW's; sgd's and muon's too)", low=0)
    schedule: str = _field("plateau", "learning rate over phase 2", choices=("plateau", "cosine", "constant"))
    warmup_epochs: float = _field(0.0, "epochs of linear warm-up at the start of cosine", low=0)
    plateau_factor: float = _field(0.5, "ReduceLROnPlateau: factor", low=0.01, high=0.99)
    plateau_patience: int = _field(2, "ReduceLROnPlateau: epochs without a better validation loss", low=0)
    clip_norm: float = _field(0.0, "most global norm of the gradients; 0: unbounded", low=0)
    ema_decay: float = _field(
        0.0, "decay a step of the weights' moving average, which is then what is kept; 0: off", low=0, high=0.99999
    )
    precision: str = _field(
        "auto",
        "compute type; auto: mixed_float16 on a GPU, float32 on a CPU",
        choices=("auto", "float32", "mixed_float16", "mixed_bfloat16"),
    )
    seed: int = _field(0, "of initial weights, order, augmentation and dropout", low=0, high=2**31 - 1)

    # Loss
    class_weights: str = _field(
        "balanced", "balanced: n / (classes x count); sqrt: its root", choices=("balanced", "sqrt", "none")
    )
    logit_adjustment: float = _field(
        0.0, "times log class share added to the training logits (Menon 2021); 0: off", low=0, high=4
    )
    label_smoothing: float = _field(0.0, "share of each target spread evenly over the classes", low=0, high=0.9)
    teachers: tuple[str, ...] = _field(
        (), "run directories, .keras or .tflite files whose mean probabilities are taught too"
    )
    distillation_weight: float = _field(0.5, "share of the teachers in each target", low=0, high=1)
    distillation_temperature: float = _field(2.0, "softens the teachers' probabilities", low=0.1, high=20)

    # Augmentation (training images only, at 48x48)
    flip: bool = _field(True, "mirror half of the images")
    rotation: float = _field(10.0, "most rotation either way, degrees", low=0, high=180)
    shift: float = _field(0.1, "most shift either way, share of the side", low=0, high=0.5)
    zoom: float = _field(0.1, "most zoom either way, share", low=0, high=0.5)
    crop: int = _field(0, "random crop: most whole-pixel shift either way, pixels of 48", low=0, high=16)
    contrast: float = _field(0.0, "most change of contrast and brightness either way, share", low=0, high=0.9)
    erasing: float = _field(0.0, "share of images that lose a random rectangle", low=0, high=1)
    mixup: float = _field(0.0, "alpha of mixup's Beta distribution; 0: off", low=0, high=8)
    cutmix: float = _field(
        0.0, "alpha of cutmix's Beta distribution; with mixup, each batch takes one; 0: off", low=0, high=8
    )

    # Data
    validation_fraction: float = _field(
        0.1, "share of train cut off, stratified, where the data has no validation split", low=0.01, high=0.5
    )
    drop_copies: bool = _field(False, "leave out training images that are exact copies of validation or test images")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        if self.initial_image_size and not 32 <= self.initial_image_size <= self.image_size:
            raise InputError(
                f"initial_image_size {self.initial_image_size}: expected 0 or 32 to {self.image_size} (image_size)"
            )
        if self.initial_image_size and self.epochs and not 1 <= self.resizing_epochs < self.epochs:
            raise InputError(
                f"resizing_epochs {self.resizing_epochs}: expected 1 to {self.epochs - 1}, so that some of the "
                f"{self.epochs} epochs see the final size; or initial_image_size 0 (off)"
            )
        if self.schedule == "cosine" and self.epochs and self.warmup_epochs > self.epochs:
            raise InputError(f"warmup_epochs {self.warmup_epochs:g}: expected at most epochs ({self.epochs})")
        if self.logit_adjustment and self.class_weights != "none":
            raise InputError(
                f"logit_adjustment {self.logit_adjustment:g} with class_weights {self.class_weights}: both favour rare "
                "classes, together too much: set class_weights none or logit_adjustment 0"
            )
        if self.cache_features and self.augments_frozen:
            raise InputError(
                "cache_features needs an unaugmented phase 1: turn flip, rotation, shift, zoom, crop, contrast, "
                "erasing, mixup and cutmix off, or leave cache_features out"
            )

    @property
    def augments_frozen(self) -> bool:
        """Whether an image looks different in each epoch of phase 1."""
        return any(
            (
                self.flip,
                self.rotation,
                self.shift,
                self.zoom,
                self.crop,
                self.contrast,
                self.erasing,
                self.mixup,
                self.cutmix,
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Fields and values, ready for JSON."""
        return {**dataclasses.asdict(self), "teachers": list(self.teachers)}


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """The value in its field's type, or an InputError."""
    kind: Any = type(field.default)
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(max(min(value, 10**300), -(10**300)))
    if type(value) is not kind:
        raise InputError(f"{field.name} {value!r}: expected {_expected(field)}")
    out_of_range = kind in (int, float) and not (
        value == value and (low is None or value >= low) and value <= (high if high is not None else 1e9)
    )
    if out_of_range or (choices and value not in choices):
        raise InputError(f"{field.name} {value!r}: expected {_expected(field)}")
    return value


def _expected(field: dataclasses.Field) -> str:
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    if choices:
        return "one of " + ", ".join(choices)
    name = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "a list of texts"}[
        type(field.default)
    ]
    if low is None:
        return name
    return f"{name} from {low:g} to {high:g}" if high is not None else f"{name} of at least {low:g}"


def config_from_dict(values: Mapping[str, Any], base: Config | None = None) -> Config:
    """A Config from a JSON object, the fields that it leaves out taken from `base`.

    Raises:
        InputError: for an unknown key (the nearest known one is named) or a value out of range.
    """
    known = {field.name for field in dataclasses.fields(Config)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise InputError(
                f"unknown setting {key!r}"
                + (f": did you mean {near[0]!r}?" if near else ": see train --help for all settings")
            )
    return dataclasses.replace(base or Config(), **values)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag a field of Config; a flag that is not given leaves the recipe's value."""
    group = parser.add_argument_group("settings (each overrides the recipe's value; shown: the recipe `report`)")
    for field in dataclasses.fields(Config):
        flag = "--" + field.name.replace("_", "-")
        text = field.metadata["help"].replace("%", "%%")
        kind = type(field.default)
        if kind is bool:
            group.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=f"{text} ({field.default})"
            )
        elif kind is tuple:
            group.add_argument(flag, nargs="+", default=argparse.SUPPRESS, metavar="PATH", help=text)
        elif field.metadata["choices"]:
            group.add_argument(
                flag, choices=field.metadata["choices"], default=argparse.SUPPRESS, help=f"{text} ({field.default})"
            )
        else:
            group.add_argument(
                flag,
                type=kind,
                default=argparse.SUPPRESS,
                metavar={int: "N", float: "X", str: "NAME"}[kind],
                help=f"{text} ({field.default})",
            )


def config_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gave, by field name."""
    return {field.name: getattr(args, field.name) for field in dataclasses.fields(Config) if hasattr(args, field.name)}


REPORT = Config()
"""The training report's recipe: `fer-tf train --data fer2013.csv`.

From the report: EfficientNet-B0, ImageNet weights, 224 px, batch 32, AdamW with learning rate and weight decay 1e-4,
cross-entropy with class weights, ReduceLROnPlateau(factor 0.5, patience 2), mixed_float16, 3 frozen epochs, then all
layers. Its preliminary 35 % after the frozen phase and its expected 65 to 73 % are the user's figures, not ours.
Ours, where the report is silent: head and its dropout, the same rate in both phases, at most 40 epochs with early
stopping after 8, light augmentation, BatchNorm trained in phase 2, weight decay on kernels only.
"""

DEMO = Config(
    image_size=64,
    weights="fer2013",
    dropout=0.1,
    stochastic_depth=0.0,
    batch_norm_momentum=0.9,
    frozen_epochs=2,
    frozen_learning_rate=3e-3,
    epochs=3,
    early_stopping_patience=0,
    learning_rate=5e-4,
    weight_decay=0.01,
    schedule="cosine",
    warmup_epochs=0.5,
    class_weights="none",
    rotation=0.0,
    shift=0.04,
    zoom=0.0,
)
"""The embedded synthetic faces from the shipped model's backbone, in both phases: `fer-tf train`.

2.5 min on 2 cores (AMD EPYC, family 26, model 2), evaluation included. Result: synthetic test 86.4 %, where the
majority class gives 25.4 % and a linear model on pixels 47.4 %.
"""

FINETUNE = Config(
    image_size=96,
    weights="fer2013",
    dropout=0.2,
    stochastic_depth=0.0,
    batch_norm_momentum=0.9,
    frozen_epochs=3,
    frozen_learning_rate=3e-3,
    epochs=9,
    early_stopping_patience=0,
    learning_rate=3e-4,
    weight_decay=0.02,
    schedule="cosine",
    warmup_epochs=1.0,
    label_smoothing=0.1,
    shift=0.06,
)
"""Your own faces from the shipped model's backbone: `fer-tf train --data faces --recipe finetune`.

Three classes of FER-2013 with 500 training images: 2 min on 2 cores (as above), 89.2 % of 500 PublicTest images
(selection split), 45.8 % (the majority class) from scratch in as many epochs. The backbone has seen those training
images.
"""

SCRATCH = Config(
    image_size=64,
    weights="none",
    dropout=0.1,
    stochastic_depth=0.0,
    batch_norm_momentum=0.95,
    epochs=20,
    early_stopping_patience=0,
    initial_image_size=48,
    resizing_epochs=8,
    batch_size=64,
    optimizer="muon",
    momentum=0.95,
    learning_rate=3e-3,
    weight_decay=0.03,
    schedule="cosine",
    warmup_epochs=1.0,
    class_weights="none",
    label_smoothing=0.1,
    shift=0.06,
)
"""FER-2013 without ImageNet weights: `fer-tf train --data fer2013.csv --recipe scratch`.

On 2 cores (AMD EPYC, family 25, model 17; TensorFlow 2.21, float32) 53 min. Result: PublicTest (selection split)
62.27 % (95 % interval 60.7 to 63.9), macro-F1 0.586, best epoch 20 of 20. With AdamW in Muon's place (`--optimizer
adamw --learning-rate 2e-3 --weight-decay 0.02`), on another processor: 60.43 % (58.8 to 62.0), macro-F1 0.560.
"""

REFERENCE = Config(
    image_size=96,
    weights="none",
    dropout=0.2,
    stochastic_depth=0.0,
    batch_norm_momentum=0.95,
    round_kernels=True,
    frozen_epochs=0,
    epochs=44,
    early_stopping_patience=0,
    initial_image_size=64,
    resizing_epochs=32,
    batch_size=64,
    optimizer="muon",
    momentum=0.95,
    learning_rate=1.5e-3,
    weight_decay=0.05,
    schedule="cosine",
    warmup_epochs=0.5,
    ema_decay=0.9995,
    class_weights="none",
    logit_adjustment=0.25,
    distillation_temperature=1.0,
    shift=0.08,
    contrast=0.1,
    erasing=0.1,
    mixup=0.2,
)
"""The last of three steps; from the second on each starts from the one before and is taught by it.

1. `fer-tf train --data fer2013.csv --recipe scratch --run runs/scratch`
2. `fer-tf train --data fer2013.csv --recipe reference --image-size 80 --epochs 23 --resizing-epochs 13 --ema-decay 0
   --mixup 0 --erasing 0 --weights runs/scratch/model.keras --teachers runs/scratch OTHER --run runs/second`; OTHER
   is a second classifier that scores nearly as well
3. `fer-tf train --data fer2013.csv --recipe reference --weights runs/second/model.keras
   --teachers runs/second/model-int8_mixed.tflite --run runs/reference`, after `fer-tf export_tflite --run runs/second`

Times and results: `saved_models/RUNS.md`.
"""

RECIPES = {"report": REPORT, "demo": DEMO, "scratch": SCRATCH, "finetune": FINETUNE, "reference": REFERENCE}


def recipe(name: str) -> Config:
    """A recipe by its name.

    Raises:
        InputError: for an unknown name.
    """
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
