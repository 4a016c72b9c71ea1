"""Numbers as text: one place, one form for each kind of number."""

import pytest

from fer_tf import text

pytestmark = pytest.mark.light


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (text.percent(0.5251), "52.5 %"),
        (text.percent(0.5251, 2), "52.51 %"),
        (text.percent(None), "-"),
        (text.points(-0.0125), "-1.25"),
        (text.quantity(1, "image"), "1 image"),
        (text.quantity(3589, "image"), "3,589 images"),
        (text.quantity(1_000_000, "image"), "1,000,000 images"),
        (text.quantity(2.0, "epoch"), "2 epochs"),
        (text.quantity(0.5, "epoch"), "0.5 epochs"),
        (text.megabytes(1_500_000), "1.50 MB"),
        (text.megabytes(None), "-"),
        (text.interval([0.45, 0.51]), "0.450 to 0.510"),
        (text.span([None, 1.2, None, 1.1], ".1f"), "1.2 to 1.1"),
        (text.span([1.21, 1.22], ".1f"), "1.2"),
        (text.span([None], ".1f"), "-"),
        (text.duration(59.6), "1 min"),
        (text.duration(61), "1 min 01 s"),
        (text.duration(3599.4), "59 min 59 s"),
        (text.duration(7170), "2 h 00 min"),
        (text.setting(None), "-"),
        (text.setting(True), "yes"),
        (text.setting([]), "-"),
        (text.setting(["a", "b"]), "a, b"),
        (text.setting(1e-4), "0.0001"),
        (text.listed(["a"]), "a"),
        (text.listed(["a", "b", "c"]), "a, b and c"),
        (text.printable("a\nb\ud800"), r"a\nb\ud800"),
    ],
)
def test_text(found, expected):
    assert found == expected


def test_with_interval():
    scores = {
        "accuracy": 0.653,
        "accuracy_interval": [0.637, 0.669],
        "macro_f1": 0.64,
        "macro_f1_interval": [0.62, 0.655],
    }
    assert text.with_interval(scores, "accuracy") == "65.3 % (63.7 to 66.9)"
    assert text.with_interval(scores, "accuracy", decimals=2) == "65.30 % (63.70 to 66.90)"
    assert text.with_interval(scores, "macro_f1", "95 % interval ") == "0.640 (95 % interval 0.620 to 0.655)"
    assert text.with_interval(None, "accuracy") == "-"
