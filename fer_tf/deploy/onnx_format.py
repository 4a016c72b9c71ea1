"""Converts a Keras model to ONNX: grey uint8 pixels in, probabilities out, metadata inside; needs the extra `onnx`."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from fer_tf.artifacts import LABELS_NAME, METADATA_NAME
from fer_tf.deploy.conversion import check_backend, check_task, in_float32, with_preprocessing
from fer_tf.task import IMAGE_SIZE, INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    import onnx

OPSET = 18  # ONNX 1.13 of 2022; ONNX Runtime 1.14 and newer read it


def to_onnx(model: keras.Model, *, metadata: dict[str, Any]) -> bytes:
    """Convert a trained model to the bytes of a float32 ONNX file.

    The file's `metadata_props` hold `fer_tf.json` (all metadata, as JSON), `labels.txt` (one class a line) and
    `license`.

    Args:
        model: float32 (batch, size, size, 3) in [0, 255] -> probabilities (batch, classes), from `model.build_model`.
        metadata: JSON-able, with `class_names`.

    Returns:
        A file with input `images`, uint8 (batch, 48, 48, 1), the grey pixels in [0, 255], and output `probabilities`,
        float32 (batch, classes).

    Raises:
        InputError: if the model has other inputs or outputs, or Keras does not run on TensorFlow.
        ModuleNotFoundError: if the packages of the extra `onnx` are not installed.
    """
    check_backend()
    check_task(model)
    import onnx
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # it logs each pass of its optimiser
    grey = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), dtype="uint8")
    network = with_preprocessing(in_float32(model), batch_size=None)
    network = keras.Model(grey, network(keras.ops.cast(grey, "float32")))
    function = tf.function(lambda images: {OUTPUT_NAME: network(images, training=False)}, autograph=False)
    signature = tf.TensorSpec((None, IMAGE_SIZE, IMAGE_SIZE, 1), tf.uint8, name=INPUT_NAME)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=[signature], opset=OPSET)
    _state_sizes(converted.graph, model.input_shape[1])
    for end in (*converted.graph.input, *converted.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    names = metadata["class_names"]
    converted.doc_string = f"Facial expression of a 48x48 grey face: {', '.join(names)}"
    properties = {METADATA_NAME: json.dumps(metadata), LABELS_NAME: "\n".join(names) + "\n"}
    properties["license"] = str(metadata.get("license") or "")
    onnx.helper.set_model_props(converted, properties)
    onnx.checker.check_model(converted, full_check=True)
    return bytes(converted.SerializeToString())


def _state_sizes(graph: onnx.GraphProto, size: int) -> None:
    """Let each Resize node state its size, not its scale: 48 times float32(112 / 48), rounded down, is 111 pixels."""
    from onnx import helper, numpy_helper

    for node in graph.node:
        if node.op_type == "Resize":  # none if the network takes 48 px
            del node.input[1:]
            node.input.extend(["", "", "sides"])  # no region, no scales
            node.attribute.append(helper.make_attribute("axes", [2, 3]))
    used = {name for node in graph.node for name in node.input}
    graph.initializer.append(numpy_helper.from_array(np.array([size, size], np.int64), "sides"))
    for unused in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(unused)
