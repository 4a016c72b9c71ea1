"""Examples at the end of each command's --help. A test parses every line with the command's own flags."""

from __future__ import annotations

EXAMPLES = {
    "train": (
        "fer-tf train --data faces --recipe finetune          # your own faces, a folder for each class",
        "fer-tf train --data fer2013.csv --recipe scratch     # without ImageNet weights, for two cores",
        "fer-tf train --resume runs/scratch                   # go on after a stop",
    ),
    "evaluate": (
        "fer-tf evaluate --run runs/scratch",
        "fer-tf evaluate --model model.tflite --data fer2013.csv --split test",
        "fer-tf evaluate --run runs/scratch --against other.keras --output figures.json",
    ),
    "export_tflite": (
        "fer-tf export_tflite --run runs/scratch                          # the fastest that keeps the accuracy",
        "fer-tf export_tflite --run runs/scratch --quantization float16",
    ),
    "export_onnx": (
        "fer-tf export_onnx --run runs/scratch",
        "fer-tf export_onnx --run runs/scratch --output model.onnx",
    ),
    "predict": (
        "fer-tf predict photo.jpg",
        "fer-tf predict photographs --annotate marked --format csv",
        "fer-tf predict talk.mp4 --summary --plot talk.png",
    ),
    "classify": (
        "fer-tf classify photographs answers",
        "fer-tf classify pictures.parquet answers --column image --key id",
    ),
    "web": (
        "fer-tf web page --serve                              # try it on this machine",
        "fer-tf web page --run runs/scratch",
    ),
    "explain": (
        "fer-tf explain photo.jpg",
        "fer-tf explain photo.jpg --face 2 --emotion happy --output why.png",
    ),
    "explore": (
        "fer-tf explore --data fer2013.csv",
        "fer-tf explore --data faces --output audit",
    ),
    "prepare": (
        "fer-tf prepare fer2013.csv fer2013.npz",
        "fer-tf prepare faces faces.npz --faces detect",
    ),
    "report": (
        "fer-tf report --run runs/scratch",
        "fer-tf report --run runs/scratch --no-faces",
    ),
    "ship": ("fer-tf ship --run runs/scratch --output to-publish",),
    "compare": (
        "fer-tf compare runs/scratch runs/finetune",
        "fer-tf compare runs/* --output curves.png",
    ),
    "benchmark": (
        "fer-tf benchmark",
        "fer-tf benchmark --model model.tflite --only latency,startup",
        "fer-tf benchmark --only train --image-sizes 48 96 --batch-size 64",
    ),
}
