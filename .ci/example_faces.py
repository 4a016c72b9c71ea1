"""Write drawn faces like a user's own data: `python .ci/example_faces.py DIR` makes DIR/train/bored/0.png and so on."""

import sys
from pathlib import Path

from PIL import Image

import fer_tf

for split in ("train", "test"):
    part = fer_tf.load_dataset(limit=200).take(split).decoded()
    for number, (crop, label) in enumerate(zip(part.images, part.labels, strict=True)):
        name = {3: "keen", 6: "bored"}.get(int(label))  # happy, neutral
        if name:
            file = Path(sys.argv[1], split, name, f"{number}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop.squeeze()).save(file)
