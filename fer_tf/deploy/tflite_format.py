"""Edits a converted .tflite: sets uint8 grey pixels as input, and adds names, labels and metadata."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from fer_tf.artifacts import LABELS_NAME, METADATA_NAME, parse_metadata
from fer_tf.task import IMAGE_SIZE, INPUT_NAME, OUTPUT_NAME

_SIGNATURE = "serving_default"
_ALIGNMENT = 16  # bytes, for every buffer; the schema requires it, but flatbuffers' Python code does not do it
_METADATA_ENTRY = "TFLITE_METADATA"  # this and the next lines: metadata_schema.fbs of the LiteRT convention
_METADATA_IDENTIFIER = b"M001"
_METADATA_PARSER_VERSION = "1.0.0"
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1
_COLOUR_SPACE = {"rgb": 1, "grey": 2}
_LUMA = np.array([19595, 38470, 7471], np.float32) / 65536  # ITU-R 601-2 as Pillow computes it; exact in float32
_TENSOR_AXIS_LABELS = 2
_EARLIEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # constant, so that the same model gives the same bytes


def parse(flatbuffer: bytes) -> Any:
    """Return the model in a .tflite as a tree of objects that can be changed."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))


def operator_name(model: Any, operator: Any) -> str:
    """Return an operator's name in the schema, such as CONV_2D."""
    return flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)


class _AlignedBuffer(schema.BufferT):
    def Pack(self, builder: flatbuffers.Builder) -> int:
        builder.StartVector(1, len(self.data), _ALIGNMENT)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = bytes(self.data)
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def serialize(model: Any) -> bytes:
    """Return the bytes of a model tree from `parse`, with every constant inside and aligned."""
    for index, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data):
            model.buffers[index] = _AlignedBuffer()
            model.buffers[index].data = buffer.data
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def use_uint8_input(model: Any) -> None:
    """Change a graph with a float input to uint8 with scale 1 and zero point 0, so that the values are the grey pixels.

    DEQUANTIZE or QUANTIZE converts the pixels. XNNPACK runs both; it does not run CAST, which would split its
    partition.

    Args:
        model: from `parse`, with a float32 input that a QUANTIZE may follow; changed in place.
    """
    graph = model.subgraphs[0]
    index = graph.inputs[0]
    pixels = graph.tensors[index]
    floats = schema.TensorT()
    floats.name, floats.shape, floats.type = b"pixels", list(pixels.shape), schema.TensorType.FLOAT32
    pixels.type = schema.TensorType.UINT8
    pixels.quantization = _quantization(1.0, 0)
    readers = [operator for operator in graph.operators if index in operator.inputs]
    if all(_is_exact_quantize(model, graph, operator) for operator in readers):
        return  # QUANTIZE also converts uint8 to int8, a shift by 128
    graph.tensors.append(floats)
    for operator in readers:
        operator.inputs = [len(graph.tensors) - 1 if tensor == index else tensor for tensor in operator.inputs]
    dequantize = schema.OperatorT()
    dequantize.opcodeIndex = _operator_code(model, schema.BuiltinOperator.DEQUANTIZE)
    dequantize.inputs, dequantize.outputs = [index], [len(graph.tensors) - 1]
    graph.operators.insert(0, dequantize)


def use_rgb_input(model: Any) -> None:
    """Put four operators in front of a graph that takes grey pixels, so that it takes RGB pixels.

    The grey value is Pillow's: the weighted sum, rounded. If the three values are equal, the grey value is the same.

    Args:
        model: from `parse`, after `use_uint8_input`; changed in place.
    """
    graph = model.subgraphs[0]
    grey = graph.inputs[0]

    def tensor(name: str, kind: int, shape: list[int], values: np.ndarray | None = None) -> int:
        new = schema.TensorT()
        new.name, new.type, new.shape, new.buffer = name.encode(), kind, shape, 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
            model.buffers.append(buffer)
            new.buffer = len(model.buffers) - 1
        graph.tensors.append(new)
        return len(graph.tensors) - 1

    floats, image = schema.TensorType.FLOAT32, [1, IMAGE_SIZE, IMAGE_SIZE]
    rgb = tensor(INPUT_NAME, schema.TensorType.UINT8, [*image, 3])
    graph.tensors[rgb].quantization = _quantization(1.0, 0)
    kernel, half = tensor("luma", floats, [1, 1, 1, 3], _LUMA), tensor("half", floats, [1], np.array([0.5]))
    colours, mixed, rounded = (tensor(name, floats, [*image, n]) for name, n in (("rgb", 3), ("mixed", 1), ("grey", 1)))
    convolution = schema.Conv2DOptionsT()
    convolution.strideW = convolution.strideH = convolution.dilationWFactor = convolution.dilationHFactor = 1
    convolution.padding = schema.Padding.VALID
    builtin, options = schema.BuiltinOperator, schema.BuiltinOptions
    steps: list[tuple[int, list[int], int, int, Any]] = [
        (builtin.DEQUANTIZE, [rgb], colours, 0, None),
        (builtin.CONV_2D, [colours, kernel, half], mixed, options.Conv2DOptions, convolution),
        (builtin.FLOOR, [mixed], rounded, 0, None),
        (builtin.QUANTIZE, [rounded], grey, 0, None),
    ]
    front = []
    for code, inputs, output, kind, settings in steps:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = _operator_code(model, code), inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, settings
        front.append(operator)
    graph.operators = [*front, *graph.operators]
    graph.inputs = [rgb]


def _is_exact_quantize(model: Any, graph: Any, operator: Any) -> bool:
    if operator_name(model, operator) != "QUANTIZE":
        return False
    quantization = graph.tensors[operator.outputs[0]].quantization
    return list(quantization.scale) == [1.0] and list(quantization.zeroPoint) == [-128]


def _quantization(scale: float, zero_point: int) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [scale], [zero_point]
    return quantization


def _operator_code(model: Any, builtin: int) -> int:
    for index, code in enumerate(model.operatorCodes):
        if flatbuffer_utils.get_builtin_code_from_operator_code(code) == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def name_input_and_output(model: Any) -> None:
    """Set the names of input, output and signature.

    Args:
        model: from `parse`; changed in place.
    """
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = _SIGNATURE.encode(), 0
    signature.inputs, signature.outputs = [], []
    for name, index, maps in (
        (INPUT_NAME, graph.inputs[0], signature.inputs),
        (OUTPUT_NAME, graph.outputs[0], signature.outputs),
    ):
        graph.tensors[index].name = name.encode()
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        maps.append(entry)
    model.signatureDefs = [signature]


def with_metadata(model: Any, metadata: dict[str, Any]) -> bytes:
    """Return the finished file: the flatbuffer, then a zip archive with the labels and the metadata.

    Both follow the LiteRT metadata convention. The buffer TFLITE_METADATA describes the tensors and names the files in
    the archive; any zip program opens the archive.

    Args:
        model: from `parse`; changed in place.
        metadata: JSON-able, with `class_names`.

    Returns:
        The file's bytes.
    """
    description = f"Facial expression of a 48x48 grey face: {', '.join(metadata['class_names'])}"
    model.description = description.encode()
    buffer = schema.BufferT()
    buffer.data = _convention_metadata(
        description, str(metadata.get("license") or ""), colour=metadata.get("input", "grey")
    )
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _METADATA_ENTRY.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return _with_archive(serialize(model), metadata)


def with_prediction_sets(content: bytes, prediction_sets: dict[str, Any] | None) -> bytes:
    """Return a finished file with other thresholds in its metadata; the flatbuffer stays the same.

    Args:
        content: the result of `with_metadata`.
        prediction_sets: the result of `evaluation.fit_prediction_sets`.
    """
    metadata = parse_metadata(content, "the .tflite")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        end = min(member.header_offset for member in archive.infolist())
    return _with_archive(content[:end], {**metadata, "prediction_sets": prediction_sets})


def _with_archive(flatbuffer: bytes, metadata: dict[str, Any]) -> bytes:
    """Return the flatbuffer, followed by the archive of labels and metadata."""
    metadata = {**metadata, "flatbuffer_sha256": hashlib.sha256(flatbuffer).hexdigest()}
    archive = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(archive, "a") as writer:
        for name, text in (
            (LABELS_NAME, "\n".join(metadata["class_names"]) + "\n"),
            (METADATA_NAME, json.dumps(metadata, indent=2) + "\n"),
        ):
            writer.writestr(zipfile.ZipInfo(name, _EARLIEST_ZIP_DATE), text)
    return archive.getvalue()


def _convention_metadata(description: str, licence: str, *, colour: str) -> bytes:
    """The TFLITE_METADATA buffer; the slots are the fields' positions in metadata_schema.fbs."""
    builder = flatbuffers.Builder(1024)
    text = builder.CreateString

    def table(num_slots: int, offsets: dict[int, int], numbers: dict[int, int] | None = None) -> int:
        builder.StartObject(num_slots)
        for slot, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, number in (numbers or {}).items():
            builder.PrependUint8Slot(slot, number, 0)
        return builder.EndObject()

    def vector(*offsets: int) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    builder.StartObject(2)  # ImageSize
    builder.PrependUint32Slot(0, IMAGE_SIZE, 0)
    builder.PrependUint32Slot(1, IMAGE_SIZE, 0)
    size = builder.EndObject()
    image = table(2, {1: size}, {0: _COLOUR_SPACE[colour]})  # ImageProperties
    image_content = table(3, {1: image}, {0: _IMAGE_PROPERTIES})
    pixels = table(7, {0: text(INPUT_NAME), 1: text(f"{colour} pixel values, 0 to 255, not scaled"), 3: image_content})
    labels = table(5, {0: text(LABELS_NAME), 1: text("one class a line")}, {2: _TENSOR_AXIS_LABELS})
    score_content = table(3, {1: table(0, {})}, {0: _FEATURE_PROPERTIES})
    scores = table(
        7,
        {
            0: text(OUTPUT_NAME),
            1: text("probability of each class"),
            3: score_content,
            6: vector(labels),
        },
    )
    own = table(5, {0: text(METADATA_NAME), 1: text("classes, recipe, data, versions, as JSON")})
    graph = table(9, {2: vector(pixels), 3: vector(scores)})
    root = table(
        8,
        {
            0: text("fer_tf"),
            1: text(description),
            3: vector(graph),
            5: text(licence),
            6: vector(own),
            7: text(_METADATA_PARSER_VERSION),
        },
    )
    builder.Finish(root, file_identifier=_METADATA_IDENTIFIER)
    return bytes(builder.Output())
