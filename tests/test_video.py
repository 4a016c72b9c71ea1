"""Videos: each frame's own time, files that end early, annotated copies, followed faces, sampling, summaries, plots."""

import csv
import functools
import http.server
import json
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces import tracking, video
from fer_tf.faces.containers import read_container
from fer_tf.faces.inputs import find_inputs
from fer_tf.recognition import Face, Recognizer
from fer_tf.report import plots
from fer_tf.report.timelines import Curves, Summary
from tests.drawn_pictures import FACE_BOXES, photograph

cv2 = pytest.importorskip("cv2")
av = pytest.importorskip("av")
video.opencv()  # FFmpeg reads its log level at its first use in a process, which may be in this test

STEADY = [40 * number for number in range(50)]
UNEVEN = [0, *np.cumsum(np.random.default_rng(1).choice([10, 33, 40, 100, 333], 49)).tolist()]
KINDS = {  # suffix: codec, pixel format, True if it stores times in milliseconds
    ".mp4": ("mpeg4", "yuv420p", True),
    ".mov": ("mjpeg", "yuvj420p", True),
    ".m4v": ("mpeg4", "yuv420p", True),
    ".3gp": ("mpeg4", "yuv420p", True),
    ".mkv": ("mpeg4", "yuv420p", True),
    ".webm": ("libvpx", "yuv420p", True),
    ".flv": ("flv", "yuv420p", True),
    ".wmv": ("wmv2", "yuv420p", True),
    ".avi": ("mjpeg", "yuvj420p", False),
    ".mpg": ("mpeg1video", "yuv420p", False),
    ".ts": ("mpeg2video", "yuv420p", False),
}


def numbered(number, size=(160, 96)):
    """A grey picture whose eight fields give its number in binary."""
    pixels = np.full((size[1], size[0], 3), 100, np.uint8)
    for bit in range(8):
        pixels[32:64, 16 * bit + 18 : 16 * bit + 30] = 255 if number >> bit & 1 else 0
    return pixels


def number_of(image):
    fields = np.asarray(image.convert("L").resize((160, 96)))[40:56]
    return sum(int(fields[:, 16 * bit + 21 : 16 * bit + 27].mean() > 128) << bit for bit in range(8))


def compose(path, times=STEADY, frames=numbered, **options):
    """Write a video: `frames(number)` gives RGB arrays, `times` are milliseconds."""
    codec, pixels, in_milliseconds = KINDS[path.suffix]
    base = Fraction(1, 1000 if in_milliseconds else 25)
    with av.open(str(path), "w", options=options) as file:
        quick = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}
        stream = file.add_stream(codec, rate=25, options=quick)
        stream.codec_context.time_base = base
        stream.height, stream.width = frames(0).shape[:2]
        stream.pix_fmt, stream.bit_rate = pixels, 2_000_000
        for number, milliseconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(frames(number), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = round(Fraction(int(milliseconds), 1000) / base), base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def browser_recording(path, times, *, duration):
    """A WebM like those of a browser's MediaRecorder: no rate, and no duration if `duration` is False."""
    data = bytearray(compose(path, times).read_bytes())
    names = [b"\x23\xe3\x83", b"\x44\x89"]  # DefaultDuration and Duration
    for name in names[: 1 if duration else 2]:
        start = data.index(name)
        end = start + len(name) + 1 + (data[start + len(name)] & 0x7F)
        data[start:end] = bytes([0xEC, 0x80 | end - start - 2]) + bytes(end - start - 2)  # Void
    path.write_bytes(data)
    return path


def read(path, **settings):
    source = video.FrameSource(path, **settings)
    return source, [(seconds, number_of(image)) for seconds, image in source]


# --- time ---


@pytest.mark.parametrize("suffix", KINDS)
def test_frames_have_their_own_times_at_a_constant_rate(tmp_path, suffix):
    source, found = read(compose(tmp_path / f"clip{suffix}"))
    assert [number for _, number in found] == list(range(50))
    assert [seconds for seconds, _ in found] == pytest.approx([t / 1000 for t in STEADY], abs=0.05)
    assert source.problem is None and source.length == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("suffix", [suffix for suffix, kind in KINDS.items() if kind[2] and suffix != ".wmv"])
def test_frames_have_their_own_times_at_a_variable_rate(tmp_path, suffix):
    source, found = read(compose(tmp_path / f"clip{suffix}", UNEVEN))
    assert [number for _, number in found] == list(range(50))
    assert [seconds for seconds, _ in found] == pytest.approx([t / 1000 for t in UNEVEN], abs=0.05)
    assert source.problem is None


@pytest.mark.parametrize("duration", [True, False])
def test_a_browser_recording_has_times_and_no_message(tmp_path, duration):
    times = [33 * number + shift for number, shift in enumerate(np.random.default_rng(0).integers(0, 12, 50))]
    source, found = read(browser_recording(tmp_path / "clip.webm", times, duration=duration))
    assert [seconds for seconds, _ in found] == pytest.approx([(t - times[0]) / 1000 for t in times], abs=0.05)
    assert source.problem is None


def test_a_file_without_times_falls_back_to_its_rate(tmp_path):
    raw = tmp_path / "raw.m1v"
    with av.open(str(raw), "w", format="mpeg1video") as file:
        stream = file.add_stream("mpeg1video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(20):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        file.mux(stream.encode(None))
    source, found = read(raw)
    assert [seconds for seconds, _ in found] == pytest.approx([number / 25 for number in range(20)], abs=0.05)
    assert source.problem is None


def test_times_rise_whatever_a_file_says(monkeypatch, tmp_path):
    path = compose(tmp_path / "clip.mp4", STEADY[:7])
    says = iter([0.0, 40.0, 40.0, -7.0, float("nan"), 200.0, 9e9])

    class Capture:
        def __init__(self, *source):
            self.real = real(*source)

        def get(self, what):
            return next(says) if what == cv2.CAP_PROP_POS_MSEC else self.real.get(what)

        def __getattr__(self, name):
            return getattr(self.real, name)

    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    assert [seconds for seconds, _ in read(path)[1]] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24])


# --- files that end early ---


def _cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * share)])
    return path


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".webm", ".mkv", ".flv"])
def test_a_file_that_ends_early_says_how_much_was_read(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    source, found = read(_cut(compose(tmp_path / f"clip{suffix}", **options), 0.45))
    assert 5 < len(found) < 40
    of = " of 50" if suffix in (".avi", ".mp4") else ""
    assert source.problem.startswith(f"{tmp_path / 'clip'}{suffix}: {len(found)}{of} frames could be read, up to ")
    assert ("of 2.00 s" in source.problem) == (not of)
    assert ("too early" in source.problem) == (suffix == ".avi")
    assert source.length < 1.7


@pytest.mark.parametrize("suffix", [".webm", ".wmv", ".ts"])
def test_a_file_without_a_duration_that_ends_early(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    if suffix == ".webm":
        browser_recording(path, STEADY, duration=False)
        data = path.read_bytes()
        for name in (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"):  # Segment and Cluster, as a browser streams them
            at = data.index(name) + 4
            length = 9 - data[at].bit_length()
            data = data[:at] + ((1 << 7 * length + 1) - 1).to_bytes(length) + data[at + length :]
        path.write_bytes(data[: data.rindex(b"\x1c\x53\xbb\x6b")])  # a stream has no Cues
    else:
        compose(path)
    assert read(path)[0].problem is None
    source, found = read(_cut(path, 0.45))
    assert 5 < len(found) < 40
    assert source.problem.startswith(
        f"{path}: {len(found)} frames could be read, up to {source.seconds:.2f} s; the file"
    )


def test_a_gif_that_ends_early(tmp_path):
    pictures = [Image.fromarray(numbered(number)) for number in range(12)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[40, 200, 90] * 4)
    source, found = read(tmp_path / "a.gif")
    assert [seconds for seconds, _ in found][:5] == pytest.approx([0, 0.04, 0.24, 0.33, 0.37])
    assert source.problem is None
    assert "damaged or incomplete" in read(_cut(tmp_path / "a.gif", 0.6))[0].problem


def test_a_hole_in_an_avi_is_said(tmp_path):
    path = compose(tmp_path / "clip.avi")
    data = bytearray(path.read_bytes())
    start, end = len(data) * 30 // 100, len(data) * 40 // 100
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    source, found = read(path)
    assert len(found) < 50 and found[-1][1] == 49
    assert f"{len(found)} of 50 frames" in source.problem and "the times after the gap are too early" in source.problem


@pytest.mark.parametrize("times", [STEADY, [*range(0, 5000, 500), *range(5000, 6600, 40)]])
def test_a_video_cut_on_a_phone_is_complete(tmp_path, times):
    """An edit list hides the first ten of fifty frames."""
    original = compose(tmp_path / "original.mp4", times)
    path = tmp_path / "clip.mp4"
    with av.open(str(original)) as source, av.open(str(path), "w", options={"use_editlist": "1"}) as file:
        stream = source.streams.video[0]
        copy = file.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                shift = round(Fraction(times[10], 1000) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                file.mux(packet)
    source, found = read(path)
    assert [number for _, number in found] == list(range(10, 50))
    assert source.problem is None and source.length == pytest.approx(1.6, abs=0.05)
    assert "of 1.60 s" in read(_cut_samples(path))[0].problem


def _cut_samples(path):
    """Overwrite the second half of the pictures, which are stored before the index."""
    data = bytearray(path.read_bytes())
    index = data.index(b"moov")
    data[index // 2 : index - 4] = bytes(index - 4 - index // 2)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".wmv"])
def test_a_crafted_structure_does_no_harm(tmp_path, suffix):
    data = compose(tmp_path / f"clip{suffix}").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(data)
        places = rng.integers(len(data) - 900, len(data), 8) if suffix == ".mp4" else rng.integers(4, 600, 8)
        for place in places:
            changed[place] = rng.integers(256)
        (tmp_path / "changed").write_bytes(changed)
        read_container(tmp_path / "changed")
    for start in (b"", b"GIF8", b"\0\0\0\0ftyp", b"\0\0\0\1moov", b"\0\0\0\x08moov" * 9):
        (tmp_path / "odd").write_bytes(start)
        read_container(tmp_path / "odd")


# --- the annotated copy ---


def _copy_of(path, model, **settings):
    """Return seconds and number of each frame of the annotated copy, and the copy's path."""
    output = path.with_name(f"{path.stem}-copy.mp4")
    list(Recognizer(model, faces="detect").stream(video.FrameSource(path, **settings), annotated=output))
    return read(output)


def _starts(found):
    """The time at which each number is first shown."""
    starts = {}
    for seconds, number in found:
        starts.setdefault(number, seconds)
    return starts


@pytest.mark.parametrize(("suffix", "times"), [(".mp4", STEADY), (".mp4", UNEVEN), (".webm", UNEVEN), (".flv", UNEVEN)])
def test_the_copy_has_a_constant_rate_and_each_frame_at_its_time(tmp_path, model, suffix, times):
    path = compose(tmp_path / f"clip{suffix}", times)
    source, original = read(path)
    copy, found = _copy_of(path, model)
    assert np.diff([seconds for seconds, _ in found]) == pytest.approx(1 / copy.fps, abs=1e-3)
    starts = _starts(found)
    for seconds, number in original:
        if number in starts:
            assert starts[number] == pytest.approx(seconds, abs=0.05)
    dropped = {number for _, number in original} - set(starts)
    assert len(dropped) < (1 if times is STEADY else 20)
    assert copy.length == pytest.approx(source.length, abs=0.06)


def test_a_recording_of_a_browser_has_a_copy_of_the_same_length(tmp_path, model):
    times = [0, 30, 70, 95, 600, 633, 1200, 1240]
    source, _ = read(browser_recording(tmp_path / "clip.webm", times, duration=False))
    copy, found = _copy_of(tmp_path / "clip.webm", model)
    starts = _starts(found)
    assert [starts[number] for number in (0, 4, 6)] == pytest.approx([0, 0.6, 1.2], abs=0.05)
    assert copy.length == pytest.approx(1.28, abs=0.06) and source.length == pytest.approx(1.28, abs=0.03)


def test_the_copy_of_a_file_that_ends_early_is_kept(say, tmp_path):
    photo = np.asarray(photograph())
    times = range(0, 2000, 80)
    _cut(compose(tmp_path / "clip.webm", times, lambda number: np.roll(photo, number, axis=0)), 0.5)
    status, out, err = say("clip.webm", "--annotate", "out", "--format", "jsonl")
    assert status == 2 and len(out) >= 10
    problem = read("clip.webm")[0].problem
    assert err == [problem, "the annotated videos have no sound"] and "s; the file is damaged" in problem
    copy, found = read(tmp_path / "out" / "clip-faces.mp4")
    assert copy.length == pytest.approx(json.loads(out[-1])["seconds"] + 0.08, abs=0.06) and found


def _turn(path):
    """Set the rotation of an MP4's video track to 90 degrees: the matrix of `tkhd` (ISO 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    one = 1 << 16
    matrix = (0, one, 0, -one & 0xFFFFFFFF, 0, 0, 96 * one, 0, 1 << 30)
    data[start : start + 36] = b"".join(value.to_bytes(4) for value in matrix)
    path.write_bytes(data)
    return path


def test_rotation_is_applied(tmp_path, model):
    def bright_corner(number):
        pixels = np.zeros((96, 160, 3), np.uint8)
        pixels[:48, :80] = 255
        return pixels

    path = _turn(compose(tmp_path / "clip.mp4", STEADY[:5], bright_corner))
    output = tmp_path / "copy.mp4"
    for _, frame, _ in Recognizer(model, faces="detect").stream(path, annotated=output):
        assert frame.size == (96, 160)
    for _, frame in video.FrameSource(output):
        assert frame.size == (96, 160)
        assert [np.asarray(frame)[y, x, 0] > 128 for y, x in ((40, 70), (40, 20), (120, 70), (120, 20))] == [1, 0, 0, 0]


def test_a_copy_with_odd_sides(tmp_path):
    writer = video.VideoWriter(tmp_path / "odd.mp4", fps=25, size=(161, 97))
    writer.write(Image.new("RGB", (161, 97), "white"))
    writer.close()
    (frame,) = [frame for _, frame in video.FrameSource(tmp_path / "odd.mp4")]
    assert np.asarray(frame).mean() > 250


# --- sampling ---


def test_every_gives_a_frame_a_period(tmp_path):
    path = compose(tmp_path / "clip.mp4")
    source, found = read(path, every=0.5)
    assert [seconds for seconds, _ in found] == pytest.approx([0, 0.52, 1.0, 1.52], abs=0.021)
    assert source.num_read == 50 and source.problem is None
    assert [number for _, number in read(path, every=0.001)[1]] == list(range(50))
    with pytest.raises(InputError, match="every -1: expected seconds"):
        video.FrameSource(path, every=-1)


def test_every_on_the_command_line(say, tmp_path):
    compose(tmp_path / "clip.mp4", frames=lambda number: np.asarray(photograph()))
    status, out, _ = say("clip.mp4", "--every", "0.8", "--format", "jsonl")
    rows = [json.loads(line) for line in out]
    assert status == 0
    assert [(row["frame"], row["seconds"]) for row in rows if row["face"] == 1] == [(1, 0.0), (21, 0.8), (41, 1.6)]
    for value in ("-1", "nan"):
        status, _, err = say("clip.mp4", "--every", value)
        assert (status, err) == (2, [f"fer-tf predict: error: --every {value}: expected seconds, or 0 for every frame"])


# --- what is a video ---


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("name", ["clip{}", "clip", "clip.xyz"])
def test_a_video_is_known_whatever_its_suffix(tmp_path, suffix, name):
    path = compose(tmp_path / f"original{suffix}", STEADY[:5])
    path = path.rename(tmp_path / name.format(suffix))
    for text in (str(path), str(tmp_path)):
        assert find_inputs([text]).videos == [path]
    assert len(read(path)[1]) == 5


def test_a_moving_gif_is_a_video_and_source_code_is_not(say, tmp_path):
    pictures = [photograph()] * 2 + [photograph(num_faces=0)]
    pictures[0].save(tmp_path / "moving.gif", save_all=True, append_images=pictures[1:], duration=100)
    (tmp_path / "code.ts").write_text("Good: number = 1;\n" * 50)
    status, out, err = say(".", "--format", "jsonl")
    assert (status, {json.loads(line)["file"] for line in out}) == (0, {"moving.gif"})
    assert err == ["left out files that are not pictures or videos: 1 .ts"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("code.ts", "code.ts: not a picture or a video that OpenCV can read; convert it to .mp4 (H.264)"),
        ("frame_01.txt", "frame_01.txt: not a picture or a video that OpenCV can read; convert it to .mp4 (H.264)"),
        ("missing.ts", "no image file at missing.ts"),
        (
            "rtsp://user:secret@127.0.0.1:9/door",
            "rtsp://127.0.0.1:9/door: OpenCV cannot open it; check the address and that it can be reached",
        ),
        ("http://127.0.0.1:9/clip.mp4", "http://127.0.0.1:9/clip.mp4: OpenCV cannot open it"),
        ("/dev/video97", "/dev/video97: OpenCV cannot open it"),
    ],
)
def test_what_cannot_be_opened_is_one_line(say, tmp_path, name, message):
    (tmp_path / "code.ts").write_text("const a: number = 1;\n")
    (tmp_path / "frame_01.txt").write_text("a text")
    photograph().save(tmp_path / "frame_02.png")
    status, out, err = say(name)
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith(f"fer-tf predict: error: {message}") and "secret" not in err[0]


def test_an_address_is_read_as_a_video(say, tmp_path):
    """A server on this machine serves a video file."""
    compose(tmp_path / "clip.mp4", STEADY[:5], lambda number: np.asarray(photograph()))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/clip.mp4"
        status, out, _ = say(address, "--format", "jsonl", "--annotate", "out")
        server.shutdown()
    assert status == 0 and [json.loads(line)["file"] for line in out] == [address] * 10
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip-mp4-faces.mp4"]


# --- faces ---


def _update(smoother, seconds, boxes, picture=None):
    return [number for number, _ in smoother.update(seconds, boxes, np.full((len(boxes), 2), 0.5), picture)]


@pytest.mark.parametrize("fps", [10, 25, 50])
@pytest.mark.parametrize("hidden", [False, True])
def test_two_faces_that_cross_keep_their_numbers(fps, hidden):
    """The left face moves to the right and the right one to the left; when they overlap, one hides the other."""
    rng = np.random.default_rng(0)
    smoother = tracking.Smoother()
    for frame in range(2 * fps):
        x = 50 + 200 * frame / fps
        jitter = rng.normal(0, 1.5, (2, 2)).round().astype(int)
        boxes = [
            (round(x) + jitter[0, 0], 100 + jitter[0, 1], 90, 110),
            (450 - round(x) + jitter[1, 0], 104 + jitter[1, 1], 84, 104),
        ]
        numbers = [1, 2]
        if hidden and abs(2 * x - 450) < 60:
            boxes, numbers = boxes[:1], numbers[:1]
        assert _update(smoother, frame / fps, boxes) == numbers


def test_a_few_missed_frames_keep_the_number():
    smoother = tracking.Smoother()
    for frame in range(60):
        boxes = [] if frame % 10 in (5, 6, 7, 8) else [(10 + 8 * frame, 50, 60, 60)]
        assert _update(smoother, frame / 25, boxes) == [1] * len(boxes)


def test_a_flash_is_no_cut_and_another_scene_is_one():
    rng = np.random.default_rng(0)
    scenes = [Image.fromarray(rng.integers(0, 200, (9, 16), np.uint8)).resize((320, 180)).convert("RGB") for _ in "ab"]
    flash = scenes[0].point(lambda value: min(255, value + 55))
    smoother, box = tracking.Smoother(), [(100, 50, 60, 60)]
    seen = [scenes[0], scenes[0], flash, scenes[0], scenes[1], scenes[1]]
    assert [_update(smoother, i / 25, box, picture) for i, picture in enumerate(seen)] == [[1]] * 4 + [[2]] * 2


def test_sampled_faces_keep_their_number():
    smoother = tracking.Smoother(every=5)
    assert [_update(smoother, 5.0 * i, [(100 + i, 50, 60, 60)]) for i in range(4)] == [[1]] * 4


WALLS = (np.linspace(200, 120, 480)[:, None] * np.ones(640), np.indices((480, 640)).sum(0) % 160 + 20)


def scene(faces, wall=0):
    """RGB (480, 640, 3): the photograph's first or second face at each (which, left, top)."""
    picture = Image.fromarray(WALLS[wall].astype(np.uint8)).convert("RGB")
    for which, left, top in faces:
        x, y, side, _ = FACE_BOXES[which]
        face = photograph().crop((x, y, x + side, y + side)).resize((150, 150))
        picture.paste(face, (left, top))
    return np.asarray(picture)


def _numbers_by_place(path, model, place):
    """Group the numbers of a video's faces by `place(seconds, box centre)`."""
    found = {}
    for seconds, _, faces in Recognizer(model).stream(path):
        for face in faces:
            centre = face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2
            found.setdefault(place(seconds, centre), set()).add(face.number)
    return found


@pytest.mark.slow
def test_a_video_in_which_two_faces_cross(tmp_path, model):
    def frame(number):
        return scene([(0, 20 + 10 * number, 110), (1, 470 - 10 * number, 200)])

    path = compose(tmp_path / "clip.mp4", STEADY[:46], frame)
    found = _numbers_by_place(path, model, lambda seconds, centre: (centre[1] > 232, seconds < 0.6, seconds > 1.2))
    upper = found[False, True, False] | found[False, False, True]  # before and after they meet
    lower = found[True, True, False] | found[True, False, True]
    assert len(upper) == len(lower) == 1 and upper != lower


@pytest.mark.slow
def test_a_video_in_which_a_face_leaves_and_comes_back(tmp_path, model):
    def frame(number):
        visible = number < 15 or 25 <= number < 35 or number >= 80
        return scene([(0, 60, 130), *([(1, 400, 130)] if visible else [])])

    path = compose(tmp_path / "clip.mp4", [40 * n for n in range(90)], frame)
    found = _numbers_by_place(path, model, lambda seconds, centre: (centre[0] > 320, seconds > 2.5))
    assert found[False, False] == found[False, True] and len(found[False, True]) == 1  # the face that stayed
    assert len(found[True, False]) == 1  # away for 0.4 seconds
    assert len(found[True, True]) == 1 and found[True, True] != found[True, False]  # away for 1.8 seconds
    assert found[True, True] != found[False, True]


@pytest.mark.slow
def test_a_video_with_a_cut(tmp_path, model):
    def frame(number):
        return scene([(int(number >= 10), 200, 130)], wall=int(number >= 10))

    path = compose(tmp_path / "clip.mp4", STEADY[:20], frame)
    found = _numbers_by_place(path, model, lambda seconds, centre: seconds > 0.39)
    assert found == {False: {1}, True: {2}}


# --- summaries and plots ---


def _face(number, **scores):
    return Face((0, 0, 50, 50), 0.9, (), sorted(scores.items(), key=lambda pair: -pair[1]), number)


def _summary(frames, end):
    summary = Summary("clip.mp4", ("happy", "sad"))
    rows = [row for seconds, faces in frames for row in summary.add(seconds, faces)]
    return rows, list(summary.close(end))


def test_a_summary_has_a_row_a_face_and_second_and_shares_of_the_time():
    frames = [
        (0.0, [_face(1, happy=0.9, sad=0.1), _face(2, happy=0.2, sad=0.8)]),
        (0.5, [_face(1, happy=0.7, sad=0.3)]),
        (2.0, []),
        (3.0, [_face(1, happy=0.4, sad=0.6)]),
    ]
    during, after = _summary(frames, end=3.5)
    assert [(row.second, row.face, row.frames) for row in during] == [(0, 1, 2), (0, 2, 1)]
    assert during[0].values == [("happy", pytest.approx(0.8)), ("sad", pytest.approx(0.2))]
    seen = [(row.second, row.face, row.frames) for row in after]
    assert seen == [(3, 1, 1), (None, 1, 3), (None, 2, 1), (None, None, 4)]
    # Face 1 is happy for 0.5 s and then until 2.0 s, sad for 0.5 s; frames at uneven times count by their time.
    assert after[1].values == [("happy", pytest.approx(0.8)), ("sad", pytest.approx(0.2))]
    assert after[2].values[0] == ("sad", 1.0)
    assert after[3].values[0] == ("happy", pytest.approx(2 / 3))


def _one_leaves(path):
    """Twenty frames in two seconds, with two faces; one is missing from frame 8 on."""
    faces = [photograph(), photograph(num_faces=1)]
    compose(path, range(0, 2000, 100), lambda number: np.asarray(faces[number >= 8]))
    return path


def test_the_summary_of_a_video_in_every_format(say, tmp_path):
    _one_leaves(tmp_path / "clip.mp4")
    status, out, err = say("clip.mp4", "--summary", "--format", "json")
    rows = json.loads("\n".join(out))
    assert (status, err) == (0, [])
    assert [(row["second"], row["face"], row["frames"]) for row in rows] == [
        (0, 1, 10), (0, 2, 8), (1, 1, 10), (None, 1, 20), (None, 2, 8), (None, None, 28),
    ]  # fmt: skip
    for row in rows:
        is_whole = row["second"] is None
        values = [pair["share" if is_whole else "score"] for pair in row["shares" if is_whole else "emotions"]]
        assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1, abs=1e-4)
    assert [json.loads(line) for line in say("clip.mp4", "--summary", "--format", "jsonl")[1]] == rows
    table = list(csv.DictReader(say("clip.mp4", "--summary", "--format", "csv", "--top", "1")[1]))
    assert [row["second"] for row in table] == ["0", "0", "1", "all", "all", "all"]
    assert list(table[0]) == ["file", "second", "face", "frames", "emotion_1", "score_1"]
    lines = say("clip.mp4", "--summary", "--top", "1")[1]
    assert lines[0].split() == ["file", "second", "face", "frames", "emotions"] and len(lines) == 7
    assert lines[1].split()[:4] == ["clip.mp4", "0", "1", "10"] and "of the time: " in lines[-1]


def test_a_plot_has_a_panel_a_face_and_a_line_an_emotion():
    curves = Curves(("happy", "sad"))
    for tick in range(100):
        seconds = tick / 10
        faces = [_face(1, happy=seconds / 10, sad=1 - seconds / 10)]
        if not 3 < seconds < 6:
            faces.append(_face(4, happy=0.25, sad=0.75))
        curves.add(seconds, faces)
    figure = plots.plot_scores_over_time(curves.of_faces(), ("happy", "sad"), title="clip.mp4")
    assert [ax.get_ylabel() for ax in figure.axes] == ["face 1\nscore", "face 4\nscore"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["happy", "sad"]
    whole, broken = (ax.get_lines()[0].get_xydata() for ax in figure.axes)
    np.testing.assert_allclose(whole[:, 1], whole[:, 0] / 10, atol=1e-6)
    assert np.isnan(broken).any(axis=1).sum() == 1 and not np.isnan(whole).any()
    many = {face: (np.arange(face), np.zeros((face, 2))) for face in range(1, 13)}
    figure = plots.plot_scores_over_time(many, ("happy", "sad"))
    assert len(figure.axes) == plots.MAX_PANELS and figure.axes[0].get_ylabel() == "face 5\nscore"
    assert "8 of 12 faces" in figure.axes[0].get_title()


def test_the_plot_of_a_video(say, tmp_path):
    _one_leaves(tmp_path / "clip.mp4")
    status, out, _ = say("clip.mp4", "--plot", "plots/clip.png", "--every", "0.4")
    assert status == 0 and len(out) > 4
    assert Image.open("plots/clip.png").format == "PNG"
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["clip.png"]


def test_a_plot_without_matplotlib_names_it(say, tmp_path, monkeypatch):
    compose(tmp_path / "clip.mp4", STEADY[:2])
    monkeypatch.setitem(sys.modules, "fer_tf.report.plots", None)
    assert say("clip.mp4", "--plot", "a.png") == (
        2, [], ["fer-tf predict: error: --plot needs Matplotlib: pip install matplotlib"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png", "--summary"], "--summary is for videos and cameras, not for pictures: photo.png"),
        (["clip.mp4", "--plot", "clip.jpg"], "--plot clip.jpg: expected the name of a file that ends in .png"),
        (
            ["photo.png", "--plot", "a.png"],
            "--plot a.png: 0 videos and cameras; give exactly one, because a plot shows one",
        ),
        (["clip.mp4", "other.mp4", "--plot", "a.png"], "--plot a.png: 2 videos and cameras; give exactly one"),
        (["clip.mp4", "--plot", "photo.png/a.png"], "cannot write photo.png/a.png"),
    ],
)
def test_a_summary_or_plot_that_cannot_be_made(say, tmp_path, arguments, message):
    photograph().save("photo.png")
    for name in ("clip.mp4", "other.mp4"):
        compose(tmp_path / name, STEADY[:2], lambda number: np.asarray(photograph()))
    status, _, err = say(*arguments)
    assert (status, len(err)) == (2, 1) and err[0].startswith(f"fer-tf predict: error: {message}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "other.mp4", "photo.png"]
