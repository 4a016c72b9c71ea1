"""An untrained .tflite that keeps fer_tf's contract: one dense layer over the pixels, made with LiteRT's schema."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fer_tf.deploy import tflite_format
from fer_tf.task import EMOTIONS

_TYPES = {"float32": schema.TensorType.FLOAT32, "uint8": schema.TensorType.UINT8, "int32": schema.TensorType.INT32}
_IMAGE = (1, 48, 48, 1)


def dense_weights(num_classes: int = 7) -> np.ndarray:
    """The tiny model's factors for the pixels: float32 (classes, 2304)."""
    return np.random.default_rng(7).normal(0, 0.0005, (num_classes, 48 * 48)).astype(np.float32)


def expected_probabilities(images: np.ndarray, num_classes: int = 7) -> np.ndarray:
    """The tiny model's answers, computed with NumPy."""
    logits = images.reshape(len(images), -1).astype(np.float64) @ dense_weights(num_classes).T
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def write_tiny(
    path: Path, *, class_names: tuple[str, ...] = EMOTIONS, input_shape: tuple[int, ...] = _IMAGE, **changes
) -> Path:
    """Write the model with its labels and metadata.

    Args:
        path: to write.
        class_names: one name a class.
        input_shape: of another network than ours, for the error messages.
        changes: `custom`: name of a custom operator; `scale`, `zero_point`, `input_type`: of the input; `output_type`;
            `num_outputs`; `weights`, float32 (classes, values of the input); `metadata`.
    """
    model = _model(len(class_names), input_shape, **{key: changes[key] for key in changes if key != "metadata"})
    metadata = {"format": 1, "class_names": list(class_names), "image_size": 48, "synthetic": True}
    metadata |= changes.get("metadata", {})
    path.write_bytes(tflite_format.with_metadata(model, metadata))
    return path


def _model(
    num_classes,
    input_shape,
    *,
    custom=None,
    scale=None,
    zero_point=0,
    input_type="uint8",
    output_type="float32",
    num_outputs=1,
    weights=None,
):
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    model.operatorCodes = []
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    model.subgraphs = [graph]

    def tensor(shape, kind, data=None):
        new = schema.TensorT()
        new.name, new.shape, new.type, new.buffer = f"t{len(graph.tensors)}".encode(), list(shape), _TYPES[kind], 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            new.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(new)
        return len(graph.tensors) - 1

    def operator(kind, inputs, outputs, options_type=0, options=None):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 1
        code.customCode = custom.encode() if kind == schema.BuiltinOperator.CUSTOM else None
        model.operatorCodes.append(code)
        new = schema.OperatorT()
        new.opcodeIndex, new.inputs, new.outputs = len(model.operatorCodes) - 1, inputs, outputs
        new.builtinOptionsType, new.builtinOptions = options_type, options
        graph.operators.append(new)

    num_values = int(np.prod(input_shape))
    pixels = tensor(input_shape, input_type)
    if input_type != "float32":
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [1.0 if scale is None else scale], [zero_point]
        graph.tensors[pixels].quantization = quantization
    floats = tensor(input_shape, "float32")
    flat = tensor((1, num_values), "float32")
    logits = tensor((1, num_classes), "float32")
    probabilities = tensor((1, num_classes), output_type)
    shape = tensor((2,), "int32", np.array([1, num_values], np.int32))
    if weights is None:
        weights = dense_weights(num_classes) if num_values == 2304 else np.zeros((num_classes, num_values), np.float32)
    kernel = tensor(weights.shape, "float32", weights)
    builtin = schema.BuiltinOperator
    if input_type == "float32" and not custom:
        floats = pixels
    else:
        operator(builtin.CUSTOM if custom else builtin.DEQUANTIZE, [pixels], [floats])
    operator(builtin.RESHAPE, [floats, shape], [flat])
    dense = schema.FullyConnectedOptionsT()
    operator(builtin.FULLY_CONNECTED, [flat, kernel, -1], [logits], schema.BuiltinOptions.FullyConnectedOptions, dense)
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    operator(builtin.SOFTMAX, [logits], [probabilities], schema.BuiltinOptions.SoftmaxOptions, softmax)
    graph.inputs, graph.outputs = [pixels], [probabilities, logits][:num_outputs]
    return model
