import argparse
import dataclasses
import json

import pytest

from fer_tf.commands.common import add_config_arguments, config_arguments
from fer_tf.config import Config, config_from_dict
from fer_tf.errors import InputError
from fer_tf.recipes import RECIPES, recipe

pytestmark = pytest.mark.light


def test_report_recipe_holds_the_training_reports_hyperparameters():
    report = recipe("report")
    assert (report.image_size, report.batch_size, report.weights) == (224, 32, "imagenet")
    assert (report.optimizer, report.learning_rate, report.weight_decay) == ("adamw", 1e-4, 1e-4)
    assert (report.schedule, report.plateau_factor, report.plateau_patience) == ("plateau", 0.5, 2)
    assert (report.frozen_epochs, report.class_weights, report.precision) == (3, "balanced", "auto")


def test_means_beyond_the_report_are_off_in_it():
    report = recipe("report")
    off = (
        "ema_decay", "mixup", "cutmix", "crop", "erasing", "contrast", "label_smoothing", "clip_norm",
        "initial_image_size", "logit_adjustment", "teachers", "drop_copies", "warmup_epochs",
        "round_kernels", "noise", "blur", "fold", "average_with",
    )  # fmt: skip
    assert not any(getattr(report, name) for name in off)
    assert (report.stochastic_depth, report.batch_norm_momentum, report.width) == (0.2, 0.99, 1.0)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_survives_json(name):
    config = recipe(name)
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_recipe_is_named_with_the_known_ones():
    with pytest.raises(InputError, match="unknown recipe 'b7': expected one of report, demo, scratch"):
        recipe("b7")


def test_unknown_key_names_the_nearest():
    with pytest.raises(InputError, match="unknown setting 'learning_rte': did you mean 'learning_rate'"):
        config_from_dict({"learning_rte": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size 0: expected a whole number of at least 1"),
        ({"batch_size": 1.5}, "batch_size 1.5: expected a whole number"),
        ({"batch_size": True}, "batch_size True: expected a whole number"),
        ({"dropout": float("nan")}, "dropout nan: expected a number from 0 to 0.95"),
        ({"learning_rate": "fast"}, "learning_rate 'fast': expected a number"),
        ({"optimizer": "adam"}, "optimizer 'adam': expected one of adamw, sgd, muon"),
        ({"flip": 1}, "flip 1: expected true or false"),
        ({"teachers": [1]}, "teachers .*: expected a list of texts"),
        ({"image_size": 16}, "image_size 16: expected a whole number from 32 to 512"),
        (
            {"image_size": 64, "initial_image_size": 96, "resizing_epochs": 5},
            "initial_image_size 96: expected 0 or 32 to 64",
        ),
        (
            {"image_size": 64, "initial_image_size": 48, "resizing_epochs": 40},
            "resizing_epochs 40: expected 1 to 39, so that some of the 40 epochs use the final size",
        ),
        ({"schedule": "cosine", "warmup_epochs": 50}, r"warmup_epochs 50: expected at most epochs \(40\)"),
        ({"learning_rate": 10**400}, "learning_rate 1e.300: expected a number"),
        ({"noise": -1.0}, "noise -1.0: expected a number from 0 to 128"),
        ({"width": 0.05, "weights": "none"}, "width 0.05: expected a number from 0.1 to 2"),
        ({"width": 0.5}, "weights imagenet with width 0.5: ImageNet weights exist for width 1 only; set weights none"),
        ({"width": 0.5, "weights": "imagenet-lite0"}, "weights imagenet-lite0 with width 0.5"),
        ({"width": 0.5, "weights": "some/notop.h5"}, "weights some/notop.h5 with width 0.5"),
        ({"logit_adjustment": 1.0}, "logit_adjustment 1 with class_weights balanced"),
    ],
)
def test_bad_value_says_what_was_expected(values, message):
    with pytest.raises(InputError, match=message):
        config_from_dict(values)


def test_every_field_has_help_and_a_flag_that_sets_it():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    assert config_arguments(parser.parse_args([])) == {}
    for field in dataclasses.fields(Config):
        assert field.metadata["help"]
        value = {bool: "", tuple: "x"}.get(type(field.default), str(field.default))
        words = ["--" + field.name.replace("_", "-"), *([] if type(field.default) is bool else [value])]
        expected = True if type(field.default) is bool else ["x"] if type(field.default) is tuple else field.default
        assert config_arguments(parser.parse_args(words)) == {field.name: expected}
