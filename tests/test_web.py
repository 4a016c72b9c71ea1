"""The page for browsers: what `fer-tf web` writes, its types, and its answers in a real Chromium."""

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_tf import web
from fer_tf.artifacts import shipped_model
from fer_tf.commands.web import main
from fer_tf.errors import InputError
from fer_tf.faces.crops import CROP_FACTOR, crop_area, to_grey48
from fer_tf.inference import open_model
from fer_tf.web import parts
from tests.chromium import NEEDED, Chromium, needs_chromium

PAGE = parts.FOLDER / "page"
ROOT = Path(__file__).resolve().parents[1]
needs_npm = pytest.mark.skipif(shutil.which("npm") is None and not NEEDED, reason="npm is not installed")
# LiteRT.js prints its log as errors; Chromium says that this machine has no GPU. Addresses are replaced by 0x.
KNOWN_MESSAGES = {
    "No available adapters.",
    "Failed to create default WebGPU device: Error: No GPU adapter found.",
    "INFO: [environment.cc:36] Creating LiteRT environment with options",
    "WARNING: [npu_registry.cc:34] NPU accelerator could not be loaded and registered: "
    "kLiteRtStatusErrorInvalidArgument.",
    "WARNING: [model_load.cc:303] Sparsity tensors may not yet be fully supported.",  # of BlazeFace, full range
    "INFO: [accelerator_registry.cc:54] RegisterAccelerator: ptr=0x, name=GPU WebGPU",
    "INFO: [gpu_registry.cc:87] Statically linked GPU accelerator registered.",
    "INFO: [accelerator_registry.cc:54] RegisterAccelerator: ptr=0x, name=CpuAccelerator",
    "INFO: [cpu_registry.cc:75] XNNPACK CPU accelerator registered.",
    "INFO: [compiled_model.cc:812] Flatbuffer model initialized directly from incoming litert model.",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
}
FIRST_VISIT_BYTES = 8_000_000  # of all that is asked for, by gzip -9
STATUS = "document.getElementById('status').textContent"
RESULTS = "document.getElementById('results').innerText"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["full"], "exists already"),
        (["page", "--model", "nothing.tflite"], "nothing.tflite"),
        (["page", "--model", "m.keras"], "m.keras is no .tflite file"),
        (["page", "--run", "nothing"], "no run at nothing"),
        (["page", "--model", "damaged.tflite"], "damaged.tflite"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "damaged.tflite").write_bytes(b"no model")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("fer-tf web: error: ") and err.count("\n") == 1 and words in err
    assert not (tmp_path / "page").exists() and not list(tmp_path.glob(".web-*"))


def test_without_npm_one_line_says_how(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(parts.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(parts.shutil, "which", lambda name: None)
    assert main([str(tmp_path / "page")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "install npm" in err


def test_the_wheel_comes_before_npm(tmp_path, monkeypatch):
    content = b'import {x} from "@litertjs/wasm-utils";'
    source = tmp_path / "fer_tf_web" / "node_modules" / "some" / "index.js"
    source.parent.mkdir(parents=True)
    source.write_bytes(content)
    (tmp_path / "fer_tf_web" / "__init__.py").touch()
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(parts, "PARTS", {"litert/index.js": ("some/index.js", digest)})
    monkeypatch.setattr(parts.importlib.util, "find_spec", lambda name: PathFinder.find_spec(name, [str(tmp_path)]))
    monkeypatch.setattr(parts, "install", lambda folder: pytest.fail("npm is not needed"))
    assert parts.read_parts() == {"litert/index.js": b'import {x} from "./wasm-utils.js";'}


def test_a_part_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_find_modules", lambda: tmp_path / "node_modules")
    with pytest.raises(InputError, match="is not the file that"):
        parts.read_parts()


def test_our_javascript_stays_small():
    assert sum(len(path.read_text().splitlines()) for path in PAGE.glob("*.js")) <= 900


# --- In a real browser ---


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return web.build(tmp_path_factory.mktemp("web") / "page", shipped_model(".tflite"))


@contextmanager
def serving(folder):
    server = web.Server(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.address
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def browsing(*flags):
    browser = Chromium(*flags)
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture
def address(site):
    with serving(site) as address:
        yield address


@pytest.fixture
def chromium():
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A photograph with a face, one without, and a file that is no picture."""
    data = pytest.importorskip("skimage.data")
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(data.astronaut()).save(folder / "astronaut.png")
    Image.fromarray(data.coffee()).save(folder / "coffee.png")
    (folder / "notes.png").write_text("no picture")
    return folder


def visit(browser, address, width=1280):
    browser.open(address, width)
    browser.wait(f"{STATUS} === 'Ready.'")


def assert_quiet(browser, address):
    """No request to another host, and nothing in the console that is not known."""
    shown = {re.sub("0x[0-9a-f]+", "0x", message.split("\n")[0]) for message in browser.messages()}
    assert shown <= KNOWN_MESSAGES
    requests = browser.requests()
    assert requests and all(url.startswith((address, "data:", "blob:")) for url in requests), requests


COMPARE = """(async () => {
  const [{Recognizer}, {cropArea, cut, toGrey48}] =
    await Promise.all([import("./recognizer.js"), import("./resample.js")]);
  const data = Uint8Array.from(atob("@DATA@"), (c) => c.charCodeAt(0)).map((v) => @INVERT@ ? 255 - v : v);
  const picture = {width: 320, height: 240, channels: 3, data};
  const recognizer = globalThis.opened ??= await Recognizer.open();
  const result = [];
  for (const box of @BOXES@) {
    const crop = toGrey48(cut(picture, cropArea(box, @FACTOR@, 320, 240)));
    result.push([[...crop], [...await recognizer.classify(crop)]]);
  }
  return JSON.stringify(result);
})()"""


@pytest.mark.slow
@needs_npm
@needs_chromium
def test_answers_are_those_of_python(chromium, address):
    """Faces of noise, at every size between the smallest and a whole photograph, are cut and classified twice."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8))
    image = coarse.resize((320, 240), Image.Resampling.BICUBIC)
    corners = random.integers(-5, (280, 200), (500, 2))
    boxes = np.concatenate([corners, random.integers(16, 240, (500, 2))], axis=1).tolist()
    crops = np.stack([to_grey48(image.crop(crop_area(tuple(box), image.size))) for box in boxes])
    expected = open_model(shipped_model(".tflite")).predict(crops)
    visit(chromium, address)
    script = COMPARE.replace("@DATA@", base64.b64encode(image.tobytes()).decode())
    script = script.replace("@BOXES@", json.dumps(boxes)).replace("@FACTOR@", str(CROP_FACTOR))

    def compare(invert):
        found = json.loads(chromium.value(script.replace("@INVERT@", invert)))
        ours = np.array([crop for crop, _ in found]).reshape(crops.shape)
        scores = np.array([score for _, score in found])
        levels = np.abs(ours - crops.astype(int)).max()
        return levels, (scores.argmax(1) == expected.argmax(1)).mean(), np.abs(scores - expected).max()

    levels, same, difference = compare("false")
    assert levels <= 2 and same >= 0.995 and difference <= 0.05, (levels, same, difference)
    levels, same, difference = compare("true")  # the same comparison sees other pixels
    assert levels > 2 and same < 0.995 and difference > 0.05, (levels, same, difference)


@pytest.mark.slow
@needs_npm
@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_photographs(chromium, address, pictures, tmp_path, width, scheme):
    chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    visit(chromium, address, width)
    (tmp_path / "empty.png").write_bytes(chromium.screenshot())
    chromium.choose("#files", pictures / "astronaut.png", pictures / "coffee.png", pictures / "notes.png")
    chromium.wait(
        f"{RESULTS}.includes('notes.png: this browser cannot read it as a picture.') && {STATUS} === 'Ready.'"
    )
    (tmp_path / "photographs.png").write_bytes(chromium.screenshot())
    shown = chromium.value(RESULTS)
    assert "Face 1: happy" in shown and "Face 2" not in shown and "No face found." in shown
    meters = chromium.value(
        "[...document.querySelectorAll('[role=meter]')].map(m => [m.ariaLabel, m.ariaValueNow, m.ariaValueText])"
    )
    assert len(meters) == 7 and meters[0][0] == "happy, face 1" and meters[0][2] == f"{meters[0][1]} %"
    values = [int(value) for _, value, _ in meters]
    assert values == sorted(values, reverse=True) and 95 <= sum(values) <= 105
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert "no thresholds" not in chromium.value("document.body.innerText")
    assert chromium.value("document.getElementById('coverage').innerText").count("right in 90 %") == 1
    assert_quiet(chromium, address)


@pytest.mark.slow
@needs_npm
@needs_chromium
def test_sets_and_uncertain(chromium, site, pictures, tmp_path):
    folder = shutil.copytree(site, tmp_path / "page")
    model = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**model, "thresholds": {"0.9": 1, "0.55": 0}}))
    with serving(folder) as address:
        visit(chromium, address)
        assert "no thresholds" not in chromium.value("document.body.innerText")
        chromium.choose("#files", pictures / "astronaut.png")
        chromium.wait(f"{STATUS} === 'astronaut.png: 1 face.'")

        def answer(control, value):
            chromium.value(f"{{const c = document.getElementById('{control}'); c.value = {value!r};"
                           " c.dispatchEvent(new Event('change'))}")  # fmt: skip
            return chromium.value("document.querySelector('#results h3').textContent")

        assert chromium.value("document.getElementById('coverage').innerText").count("right in 55 %") == 1
        every = answer("coverage", "1").removeprefix("Face 1: ")
        assert sorted(re.split(", | or ", every)) == sorted(model["class_names"])
        assert answer("coverage", "0") == "Face 1: happy"
        top = chromium.value("Number(document.querySelector('#results [role=meter]').ariaValueNow)")
        assert answer("minimum", str(top + 2)) == "Face 1: uncertain"
        assert answer("minimum", str(top - 2)) == "Face 1: happy"
        assert_quiet(chromium, address)


@pytest.mark.slow
@needs_npm
@needs_chromium
def test_a_model_without_thresholds_offers_no_sets(chromium, site, tmp_path):
    folder = shutil.copytree(site, tmp_path / "page")
    model = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**model, "thresholds": {}}))
    with serving(folder) as address:
        visit(chromium, address)
        assert "no thresholds" in chromium.value("document.body.innerText")
        assert chromium.value("document.getElementById('coverage').disabled")


@pytest.mark.slow
@needs_npm
@needs_chromium
def test_the_code_for_pages_of_your_own(chromium, site, tmp_path):
    """The module of docs/devices.md accepts the shipped sample.json and refuses other answers."""
    (code,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "devices.md").read_text(), re.DOTALL)
    folder = shutil.copytree(site, tmp_path / "page")
    (folder / "check.js").write_text(code)
    (folder / "own.html").write_text("<!doctype html><title>own</title>")
    sample = json.loads(shipped_model(".tflite").with_name("sample.json").read_text())
    (folder / "sample.json").write_text(json.dumps(sample))
    run = "import('./check.js?@').then(() => 'the same', (error) => error.message)"
    with serving(folder) as address:
        chromium.open(address + "own.html", 800)
        assert chromium.value(run.replace("@", "1")) == "the same"
        sample["crops"][-1]["probabilities"].reverse()
        (folder / "sample.json").write_text(json.dumps(sample))
        chromium.open(address + "own.html", 800)
        assert chromium.value(run.replace("@", "2")) == "another answer"


@pytest.mark.slow
@needs_npm
@needs_chromium
def test_first_visit_and_offline(chromium, site, pictures):
    with serving(site) as address:
        visit(chromium, address)
        asked = [url.removeprefix(address) or "index.html" for url in chromium.requests() if url.startswith("http")]
        assert_quiet(chromium, address)
    assert "model.tflite" in asked and "faces/full_range.tflite" in asked
    assert "faces/short_range.tflite" not in asked  # the camera asks for it
    total = sum(len(gzip.compress((site / name).read_bytes(), 9)) for name in set(asked))
    assert total <= FIRST_VISIT_BYTES, total
    visit(chromium, address)  # no server any more
    chromium.choose("#files", pictures / "astronaut.png")
    chromium.wait(f"{STATUS} === 'astronaut.png: 1 face.'")


# --- The camera ---


@pytest.fixture(scope="module")
def film(tmp_path_factory, pictures):
    """A film of 640x480 pixels for Chromium's fake camera: a face that moves a little, as raw YUV frames."""
    with Image.open(pictures / "astronaut.png") as photograph:
        parts = [photograph.crop((60 + i, 20, 380 + i, 260)).resize((640, 480)) for i in (0, 2, 4, 6, 8, 6, 4, 2)]
    path = tmp_path_factory.mktemp("film") / "face.y4m"
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for part in parts:
            luma, *chroma = part.convert("YCbCr").split()
            file.write(b"FRAME\n" + luma.tobytes())
            for plane in chroma:
                file.write(plane.resize((320, 240), Image.Resampling.BOX).tobytes())
    return path


def allow_camera(browser, setting):
    browser.call("Browser.setPermission", permission={"name": "camera"}, setting=setting)


@pytest.mark.slow
@needs_npm
@needs_chromium
def test_camera(film, address, tmp_path):
    flags = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}")
    with browsing(*flags) as browser:
        allow_camera(browser, "granted")
        visit(browser, address)
        assert not any("short_range" in url for url in browser.requests())
        browser.value("document.getElementById('camera').click()")
        browser.wait("/Face 1: .* a second|a second[^]*Face 1: /.test(document.getElementById('live').innerText)")
        assert any(url == f"{address}faces/short_range.tflite" for url in browser.requests())
        assert browser.value("document.querySelectorAll('#live [role=meter]').length") == 7
        (tmp_path / "camera.png").write_bytes(browser.screenshot())
        browser.value("document.getElementById('smooth').click()")
        browser.value("document.querySelector('#live h2').textContent = ''")
        browser.wait("document.querySelector('#live h2').textContent")  # the loop goes on
        browser.value("document.getElementById('camera').click()")
        browser.wait("!document.getElementById('live').innerText")
        assert browser.value(STATUS) == "Ready."
        assert_quiet(browser, address)


@pytest.mark.slow
@needs_npm
@needs_chromium
@pytest.mark.parametrize(
    ("flags", "setting", "words"),
    [
        (["--use-fake-device-for-media-stream"], "denied", "The camera was not allowed"),
        (["--use-fake-device-for-media-stream=device-count=0"], "granted", "No camera"),
    ],
)
def test_no_camera(address, pictures, tmp_path, flags, setting, words):
    with browsing(*flags) as browser:
        allow_camera(browser, setting)
        visit(browser, address)
        browser.value("document.getElementById('camera').click()")
        browser.wait(f"{STATUS}.startsWith({words!r})")
        (tmp_path / "denied.png").write_bytes(browser.screenshot())
        assert browser.value("document.getElementById('camera').textContent") == "Start camera"
        browser.choose("#files", pictures / "astronaut.png")  # photographs go on
        browser.wait(f"{STATUS} === 'astronaut.png: 1 face.'")
        assert_quiet(browser, address)


# --- Our JavaScript's types ---


@pytest.mark.slow
@needs_npm
def test_types(tmp_path):
    folder = tmp_path / "check"
    shutil.copytree(parts.FOLDER, folder, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
    flags = "--checkJs --allowJs --noEmit --strict --target es2022 --lib es2022,dom,dom.iterable"
    flags += " --module es2022 --moduleResolution bundler"
    command = ["npx", "--no-install", "tsc", *flags.split(), *map(str, (folder / "page").glob("*.js"))]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
