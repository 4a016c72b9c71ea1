"""Every number that changes a training run, as one frozen dataclass."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from fer_tf.errors import InputError


def _field(
    default: Any, text: str, *, choices: tuple[str, ...] = (), low: float | None = None, high: float | None = None
) -> Any:
    """Declare a field with its help text and allowed values: one of `choices`, or a number in [low, high]."""
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices, "low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one training run; the defaults are the recipe `report`.

    The metadata of each field holds its help text, range and choices.

    Raises:
        InputError: if a value has the wrong type or is out of range, or settings contradict each other.

    Example:
        >>> import fer_tf
        >>> fer_tf.Config(weights="none", image_size=64).batch_size
        32
    """

    # Model
    image_size: int = _field(
        224, "side of the network's input, pixels; 48x48 faces are enlarged to it", low=32, high=512
    )
    weights: str = _field(
        "imagenet",
        "the backbone's starting weights: imagenet (downloaded) | imagenet-lite0 (EfficientNet-Lite0's, from a pip "
        "package) | fer2013 (the shipped model) | none | a .h5 of ImageNet no-top weights | a .keras of fer_tf",
    )
    width: float = _field(
        1.0,
        "width coefficient of the network: each layer's number of channels, relative to EfficientNet-B0; ImageNet "
        "weights exist for 1 only; a wider .keras gives its most important channels",
        low=0.1,
        high=2,
    )
    dropout: float = _field(0.3, "dropout rate of the head", low=0, high=0.95)
    stochastic_depth: float = _field(
        0.2, "drop rate of the last residual block; the rates rise linearly up to it", low=0, high=0.95
    )
    batch_norm_momentum: float = _field(
        0.99, "share of BatchNorm's moving statistics that each step keeps", low=0, high=0.9999
    )
    round_kernels: bool = _field(
        False,
        "round the final kernels to float16 precision before scoring; the .keras then compresses to about 0.6 of its "
        "size",
    )

    # Phases
    frozen_epochs: int = _field(3, "epochs of phase 1, which trains the head only; none with --weights none", low=0)
    epochs: int = _field(40, "most epochs of phase 2, which trains all layers", low=0)
    train_batch_norm: bool = _field(True, "train BatchNorm too in phase 2; otherwise its statistics stay fixed")
    early_stopping_patience: int = _field(
        8, "end phase 2 after this many epochs without a better validation accuracy; 0: never", low=0
    )
    initial_image_size: int = _field(
        0, "progressive resizing: image size of phase 2's first epochs, pixels; 0: off", low=0, high=512
    )
    resizing_epochs: int = _field(
        0, "progressive resizing: epochs until image_size is reached, in steps of 16 pixels", low=0
    )

    # Optimisation
    batch_size: int = _field(32, "images per step", low=1)
    optimizer: str = _field("adamw", "optimiser", choices=("adamw", "sgd", "muon"))
    momentum: float = _field(0.9, "Nesterov momentum of sgd and muon", low=0, high=0.9999)
    learning_rate: float = _field(1e-4, "peak learning rate of phase 2", low=0)
    frozen_learning_rate: float = _field(1e-4, "learning rate of phase 1, which is constant", low=0)
    weight_decay: float = _field(1e-4, "decoupled weight decay of all kernels, for every optimiser", low=0)
    schedule: str = _field(
        "plateau", "how the learning rate changes in phase 2", choices=("plateau", "cosine", "constant")
    )
    warmup_epochs: float = _field(0.0, "epochs of linear warm-up at the start of the schedule cosine", low=0)
    plateau_factor: float = _field(0.5, "ReduceLROnPlateau: factor of the learning rate", low=0.01, high=0.99)
    plateau_patience: int = _field(2, "ReduceLROnPlateau: epochs without a better validation loss", low=0)
    clip_norm: float = _field(0.0, "largest global norm of the gradients; 0: unbounded", low=0)
    ema_decay: float = _field(
        0.0,
        "decay per step of the weights' moving average, which is validated and kept in their place; 0: off",
        low=0,
        high=0.99999,
    )
    precision: str = _field(
        "auto",
        "compute type; auto: mixed_float16 on a GPU, float32 on a CPU",
        choices=("auto", "float32", "mixed_float16", "mixed_bfloat16"),
    )
    seed: int = _field(0, "seed of initial weights, order, augmentation and dropout", low=0, high=2**31 - 1)

    # Loss
    class_weights: str = _field(
        "balanced",
        "class weights in the loss; balanced: n / (classes x count); sqrt: its square root",
        choices=("balanced", "sqrt", "none"),
    )
    logit_adjustment: float = _field(
        0.0, "factor of the log class shares that are added to the training logits (Menon 2021); 0: off", low=0, high=4
    )
    label_smoothing: float = _field(0.0, "share of each target spread evenly over the classes", low=0, high=0.9)
    teachers: tuple[str, ...] = _field(
        (),
        "teacher models (run directories, .keras or .tflite); their mean probabilities become part of the training "
        "target; give all K models of a --fold series: each image is taught by the model that has not seen it",
    )
    distillation_weight: float = _field(0.5, "share of the teachers' probabilities in each target", low=0, high=1)
    distillation_temperature: float = _field(
        2.0, "temperature of the teachers' probabilities; above 1 softens them", low=0.1, high=20
    )
    teacher_views: int = _field(
        0,
        "views of each training image, augmented and mixed, that the teachers score; the epochs take them in turn; 0: "
        "the teachers score the image and its mirror image",
        low=0,
        high=1000,
    )
    average_with: tuple[str, ...] = _field(
        (),
        "trained models (run directories or .keras) whose weights are averaged with the run's own at its end; a model "
        "that --weights started from, or another run from it",
    )

    # Augmentation (training images only, at 48x48)
    flip: bool = _field(True, "mirror half of the images")
    rotation: float = _field(10.0, "largest rotation either way, degrees", low=0, high=180)
    shift: float = _field(0.1, "largest shift either way, share of the side", low=0, high=0.5)
    zoom: float = _field(0.1, "largest zoom either way, share of the size", low=0, high=0.5)
    crop: int = _field(0, "random crop: largest shift either way, whole pixels of 48", low=0, high=16)
    contrast: float = _field(0.0, "largest change of contrast and brightness either way, share", low=0, high=0.9)
    blur: float = _field(
        0.0, "largest standard deviation of a Gaussian blur, drawn for each image, pixels of 48", low=0, high=8
    )
    noise: float = _field(
        0.0, "largest standard deviation of Gaussian noise, drawn for each image, grey levels", low=0, high=128
    )
    erasing: float = _field(0.0, "share of images in which a random rectangle is erased", low=0, high=1)
    mixup: float = _field(0.0, "alpha of mixup's Beta distribution; 0: off", low=0, high=8)
    cutmix: float = _field(
        0.0,
        "alpha of cutmix's Beta distribution; 0: off; if mixup is on too, each batch uses one of them",
        low=0,
        high=8,
    )

    # Data
    validation_fraction: float = _field(
        0.1, "share of train that becomes the validation split, stratified, if the data has none", low=0.01, high=0.5
    )
    drop_copies: bool = _field(False, "leave out training images that are exact copies of validation or test images")
    fold: str = _field(
        "",
        "k/K: cut the training images into K folds by the seed, and train without fold k; if another run takes all K "
        "models as --teachers, each model teaches the images that it has not seen",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        if self.fold:
            parse_fold(self.fold)
            if self.weights == "fer2013" or self.weights.endswith(".keras") or self.teachers or self.average_with:
                raise InputError(
                    f"fold {self.fold} with weights {self.weights}, teachers or average_with: they may have seen the "
                    "images of the fold; start from imagenet, imagenet-lite0, none or a .h5, without other models"
                )
        if self.width != 1 and (
            self.weights in ("imagenet", "imagenet-lite0") or self.weights.endswith((".h5", ".hdf5"))
        ):
            raise InputError(
                f"weights {self.weights} with width {self.width:g}: ImageNet weights exist for width 1 only; set "
                "weights none, or to a .keras of this width or wider"
            )
        if self.initial_image_size and not 32 <= self.initial_image_size <= self.image_size:
            raise InputError(
                f"initial_image_size {self.initial_image_size}: expected 0 or 32 to {self.image_size} (image_size)"
            )
        if self.initial_image_size and self.epochs and not 1 <= self.resizing_epochs < self.epochs:
            raise InputError(
                f"resizing_epochs {self.resizing_epochs}: expected 1 to {self.epochs - 1}, so that some of the "
                f"{self.epochs} epochs use the final size; or set initial_image_size 0 (off)"
            )
        if self.schedule == "cosine" and self.epochs and self.warmup_epochs > self.epochs:
            raise InputError(f"warmup_epochs {self.warmup_epochs:g}: expected at most epochs ({self.epochs})")
        if self.logit_adjustment and self.class_weights != "none":
            raise InputError(
                f"logit_adjustment {self.logit_adjustment:g} with class_weights {self.class_weights}: both favour rare "
                "classes, and together they favour them too much: set class_weights none or logit_adjustment 0"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return fields and values, ready for JSON."""
        return {**dataclasses.asdict(self), "teachers": list(self.teachers), "average_with": list(self.average_with)}


def parse_fold(text: str) -> tuple[int, int]:
    """Return k and K of `k/K`.

    Raises:
        InputError: if the text has another form, K is not in [2, 100], or k is not in [1, K].
    """
    number, _, count = text.partition("/")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 3 for part in (number, count)) or not (
        1 <= int(number) <= int(count) and 2 <= int(count) <= 100
    ):
        raise InputError(f"fold {text!r}: expected k/K with K from 2 to 100 and k from 1 to K, such as 1/5")
    return int(number), int(count)


# The groups of --help, with the first field of each; a test compares them with the comments in Config.
GROUPS = {
    "model": "image_size",
    "phases": "frozen_epochs",
    "optimisation": "batch_size",
    "loss": "class_weights",
    "augmentation (training images only, at 48x48)": "flip",
    "data": "validation_fraction",
}


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """Return the value in its field's type, or raise an InputError."""
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


# Settings that only version 0.1 had, each with the value at which it changed nothing.
_REMOVED = {"stem_stride": 2, "cache_features": False}


def config_from_dict(values: Mapping[str, Any], base: Config | None = None) -> Config:
    """Return a Config from a JSON object.

    Args:
        values: settings by name. A setting that only version 0.1 had is ignored if its value changed nothing.
        base: gives the settings that `values` does not name; the defaults if None.

    Raises:
        InputError: for an unknown key (the nearest known one is named) or a value out of range.
    """
    known = {field.name for field in dataclasses.fields(Config)}
    kept = {}
    for key, value in values.items():
        if key in known:
            kept[key] = value
        elif key not in _REMOVED:
            near = difflib.get_close_matches(key, known, 1)
            raise InputError(
                f"unknown setting {key!r}"
                + (f": did you mean {near[0]!r}?" if near else ": see train --help for all settings")
            )
        elif value != _REMOVED[key]:
            raise InputError(
                f"setting {key} {value!r}: only version 0.1 had it; run it with fer_tf 0.1, or set it to "
                f"{_REMOVED[key]!r}"
            )
    return dataclasses.replace(base or Config(), **kept)


def __getattr__(name: str) -> Any:
    """Give the recipes, which version 0.1 kept in this module."""
    from fer_tf import recipes

    if name in ("RECIPES", "recipe") or name in {key.upper() for key in recipes.RECIPES}:
        return getattr(recipes, name)
    raise AttributeError(f"module 'fer_tf.config' has no attribute {name!r}")
