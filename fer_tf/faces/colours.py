"""The colours of drawings and plots, as #RRGGBB: one palette, so that an emotion looks the same everywhere."""

from __future__ import annotations

# Okabe and Ito's palette ("Color Universal Design", 2008): distinct for every kind of colour vision.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
GREY = "#666666"
EMOTION_COLOURS = (VERMILION, GREEN, PURPLE, ORANGE, BLUE, SKY, GREY)  # in the order of `task.EMOTIONS`
# For other classes: the colours of Tol's scheme "muted" (2021) that differ from the colours above.
OTHER_COLOURS = ("#882255", "#332288", "#999933", "#44AA99", "#F0E442")
