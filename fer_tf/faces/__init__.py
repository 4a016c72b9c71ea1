"""From a photograph to 48x48 grey crops: finding files, opening pictures, detection, crops, drawing, video."""

from fer_tf.faces.crops import to_grey48
from fer_tf.faces.detection import Detection, Face, detect_faces, find_faces
from fer_tf.faces.drawing import Mark, draw_faces
from fer_tf.faces.pictures import Picture, decode_image, open_image, read_picture
from fer_tf.faces.tracking import Smoother
from fer_tf.faces.video import FrameSource, VideoWriter, copy_fps

__all__ = [
    "Detection", "Face", "FrameSource", "Mark", "Picture", "Smoother", "VideoWriter", "copy_fps", "decode_image",
    "detect_faces", "draw_faces", "find_faces", "open_image", "read_picture", "to_grey48",
]  # fmt: skip
