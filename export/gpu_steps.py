"""The steps of the GPU check that need no server: what is installed, parity, decoding, speed.

They have run on no GPU yet (docs/gpu.md).
"""

import importlib.metadata
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import onnxruntime as ort

from deploy.demo.render import render
from deploy.demo.topics import read_topics
from deploy.providers import CUDA, require_provider
from ensembles.arrays import FloatArray, UInt8Array
from ensembles.bundle import Bundle, bundle_folder
from ensembles.contracts import ABSENT, MAX_CHUNK_FRAMES, models
from ensembles.gpu_pipelines import images_pipeline, video_pipeline
from ensembles.pipelines import FrameFitter
from ensembles.shapes import BATCHES
from export.build import Order, export_bundle
from export.encoders import encoder_builders, sample_inputs
from export.fp16 import halve
from export.gpu_device import find_gpu, utilisation
from export.gpu_report import Row, Skipped
from export.onnx import export_onnx
from export.parity import FP16_COSINE, Likeness, compare
from export.precision import run_encoder
from export.profiles import PROFILES
from export.samples import Feed
from export.samples import images as rendered_images
from gateway.errors import ConfigurationError, ModelFailed
from ingest.decode import decode_frames, decode_image
from loadtest.stats import latencies
from loadtest.workloads import picture

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "nvidia-dali-cuda120", "nvidia-dali-cuda130",
            "nvidia-pytriton", "tensorrt", "torch", "av")  # fmt: skip
CLIP_PX = (1920, 1080)
CLIP_FRAMES = 256  # among which a chunk's frames are spread
MEAN_LEVELS = 3.0  # of 255: two decoders round colours differently, on a CPU by 1.3
ROUND_S = 5.0  # of one measurement of speed
WARM_UP = 5  # runs
MEASURED = "large"  # its vision tower is ViT-L/14


def environment(_work: Path) -> list[Row]:
    """List the GPU, the packages, and what is missing."""
    gpu = find_gpu()
    rows: list[Row] = [
        {"what": "GPU", "found": f"{gpu.name}, compute capability {gpu.compute_capability}"},
        {"what": "memory", "found": f"{gpu.memory_mib} MiB"},
        {"what": "driver", "found": gpu.driver},
        {"what": "ONNX Runtime's providers", "found": ", ".join(ort.get_available_providers())},
    ]
    return rows + [{"what": name, "found": _version(name)} for name in PACKAGES]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"missing: pip install {package}"


def parity(work: Path) -> list[Row]:
    """Compare each encoder of `mini` on the GPU, in fp32 and fp16, with fp32 on the CPU."""
    require_cuda()
    exact, halved = mini(work, "fp32"), mini(work, "fp16")
    tries = sample_inputs(
        PROFILES["mini"], models(exact.dims), folder_of(work, exact, "fp32") / "tokenize"
    )
    rows: list[Row] = []
    for name in exact.precisions:
        feeds = tries[name].judged
        expected = run_encoder(folder_of(work, exact, "fp32") / name / "model.onnx", feeds)
        for precision, bundle in (("fp32", exact), ("fp16", halved)):
            session = cuda_session(folder_of(work, bundle, precision) / name / "model.onnx")
            actual: FloatArray = np.concatenate([session.run(None, feed)[0] for feed in feeds])
            likeness = compare(expected, actual)
            require_alike(f"{name} in {precision}", likeness)
            rows.append({"model": name, "precision": precision, **figures(likeness)})
    return rows


def require_alike(what: str, likeness: Likeness) -> None:
    """Raise `ModelFailed` where vectors of the GPU are not those of the CPU."""
    if not likeness.finite or likeness.mean_cosine < FP16_COSINE:
        raise ModelFailed(
            "gpu", f"{what}: mean cosine to the CPU {likeness.mean_cosine:.5f}, under {FP16_COSINE}"
        )


def figures(likeness: Likeness) -> Row:
    """Return a comparison as figures."""
    return {
        "rows": likeness.rows,
        "mean cosine": likeness.mean_cosine,
        "least cosine": likeness.least_cosine,
        "largest difference": likeness.largest_difference,
    }


def mini(work: Path, precision: str) -> Bundle:
    """Return the bundle of `mini` in fp32 or fp16, exported into the work folder once."""
    order = Order(target="gpu", precision="fp32" if precision == "fp32" else "fp16")
    return export_bundle("mini", work / precision / "models", lambda *_: None, order)


def folder_of(work: Path, bundle: Bundle, precision: str) -> Path:
    """Return where `mini` has put a bundle's files."""
    return bundle_folder(work / precision / "models", bundle.profile, bundle.version)


def cuda_session(path: Path) -> ort.InferenceSession:
    """Open an ONNX file on the GPU.

    Raises:
        Skipped: ONNX Runtime has no CUDA provider.
        ModelFailed: it has one, which did not start; ONNX Runtime would run on the CPU instead.
    """
    require_cuda()
    ort.preload_dlls()
    session = ort.InferenceSession(path, providers=[CUDA, "CPUExecutionProvider"])
    if session.get_providers()[0] != CUDA:
        raise ModelFailed("gpu", f"{CUDA} did not start: its CUDA or cuDNN libraries are missing")
    return session


def require_cuda() -> None:
    """Raise `Skipped` where ONNX Runtime has no CUDA provider; it names the package."""
    try:
        require_provider("cuda")
    except ConfigurationError as error:
        raise Skipped(str(error)) from error


def video(work: Path) -> list[Row]:
    """Compare NVDEC's frames with PyAV's, in pixels and speed; no frames must be a black one."""
    topic = next(topic for topic in read_topics() if topic.file.endswith(".mp4"))
    path = work / topic.file
    if not path.exists():
        render(topic, work, CLIP_PX)
    chunk = path.read_bytes()
    size = PROFILES[MEASURED].dims.image_size_px
    indices = np.linspace(0, CLIP_FRAMES - 1, MAX_CHUNK_FRAMES).astype(int).tolist()
    pipeline = _gpu_pipeline(video_pipeline, 1, size)
    start = time.perf_counter()
    decoded = decode_frames(chunk, indices, short_side_px=2 * size)
    expected = FrameFitter(size)(list(decoded))
    cpu_s = time.perf_counter() - start
    frames = _decode(pipeline, chunk, indices)  # the first run allocates
    start = time.perf_counter()
    frames = _decode(pipeline, chunk, indices)
    gpu_s = time.perf_counter() - start
    levels = require_same_pixels("NVDEC's frames", frames, expected)
    if _decode(pipeline, chunk, [ABSENT]).any():
        raise ModelFailed("gpu", "a chunk without frames is not answered with black")
    rate = MAX_CHUNK_FRAMES
    return [
        {"decoder": "NVDEC, DALI", "frames/s": rate / gpu_s, "mean difference, of 255": levels},
        {"decoder": "PyAV, DALI on the CPU", "frames/s": rate / cpu_s},
    ]


def _gpu_pipeline(definition: Any, batch: int, size_px: int) -> Any:
    """Build a pipeline as Triton's DALI backend runs it, to be fed by hand."""
    pipeline = definition(
        size_px=size_px,
        how="crop",
        device="mixed",
        batch_size=batch,
        num_threads=4,
        device_id=0,
        prefetch_queue_depth=1,
        exec_pipelined=False,
        exec_async=False,
    )
    pipeline.build()
    return pipeline


def _decode(pipeline: Any, chunk: bytes, indices: list[int]) -> UInt8Array:
    pipeline.feed_input("CHUNK", [np.frombuffer(chunk, np.uint8)])
    pipeline.feed_input("FRAME_INDICES", [np.array(indices, np.int32)])
    (output,) = pipeline.run()
    return np.asarray(output.as_cpu()[0])


def require_same_pixels(what: str, found: UInt8Array, expected: UInt8Array) -> float:
    """Return the mean difference in levels of the frame that differs most.

    Raises:
        ModelFailed: it is over MEAN_LEVELS, or the shapes differ.
    """
    if found.shape != expected.shape:
        raise ModelFailed("gpu", f"{what}: {found.shape}, expected {expected.shape}")
    differences = np.abs(found.astype(int) - expected.astype(int)).mean(axis=(1, 2, 3))
    if differences.max() > MEAN_LEVELS:
        raise ModelFailed(
            "gpu", f"{what} differ by {differences.max():.1f} levels, over {MEAN_LEVELS}"
        )
    return float(differences.max())


def images(_work: Path) -> list[Row]:
    """Compare JPEGs that the GPU decodes with PyAV's."""
    size = PROFILES[MEASURED].dims.image_size_px
    encoded = [picture(seed) for seed in range(16)]
    decoded = [decode_image(jpeg, short_side_px=2 * size) for jpeg in encoded]
    pipeline = _gpu_pipeline(images_pipeline, len(encoded), size)
    pipeline.feed_input("ENCODED", [np.frombuffer(jpeg, np.uint8) for jpeg in encoded])
    (output,) = pipeline.run()
    levels = require_same_pixels(
        "JPEGs", np.asarray(output.as_cpu().as_array()), FrameFitter(size)(decoded)
    )
    return [{"images": len(encoded), "mean difference, of 255": levels}]


def speed(work: Path) -> list[Row]:
    """Measure ViT-L/14 with random weights in ONNX Runtime on the GPU, in fp32 and fp16."""
    require_cuda()
    fp32, fp16 = vision_tower(work)
    rng = np.random.default_rng(7)
    size = PROFILES[MEASURED].dims.image_size_px
    rows: list[Row] = []
    for precision, path in (("fp32", fp32), ("fp16", fp16)):
        session = cuda_session(path)
        for batch in BATCHES:
            pixels = rng.integers(0, 256, (batch, 3, size, size), dtype=np.uint8)
            rows.append({"precision": precision, **measure(session, {"PIXELS": pixels}, batch)})
    return rows


def vision_tower(work: Path) -> tuple[Path, Path]:
    """Return ViT-L/14 with random weights in fp32 and fp16, written into the work folder once."""
    folder = work / "vit-l-14"
    fp32, fp16 = folder / "fp32.onnx", folder / "fp16.onnx"
    profile = PROFILES[MEASURED]
    if not fp16.exists():
        folder.mkdir(exist_ok=True)
        module = encoder_builders(profile, {})["clip_vision"]()
        export_onnx(module, models(profile.dims)["clip_vision"], fp32)
        halve(fp32, [{"PIXELS": sample_pixels(profile.dims.image_size_px)}], fp16)
    return fp32, fp16


def sample_pixels(size_px: int) -> UInt8Array:
    """Return a few rendered images: (4, 3, size, size)."""
    return rendered_images(size_px)[:4]


def measure(session: ort.InferenceSession, feed: Feed, batch: int) -> Row:
    """Run one batch again and again for ROUND_S: latency, rate, and how busy the GPU is."""
    for _ in range(WARM_UP):
        session.run(None, feed)
    times, start = [], time.perf_counter()
    with utilisation() as readings:
        while time.perf_counter() - start < ROUND_S:
            before = time.perf_counter()
            session.run(None, feed)
            times.append(time.perf_counter() - before)
    return speed_row(times, batch, readings)


def speed_row(times_s: list[float], batch: int, readings: list[float]) -> Row:
    """Return measured runs as figures."""
    spread = latencies(times_s)
    return {
        "batch": batch,
        "ms p50": spread.ms_p50,
        "ms p99": spread.ms_p99,
        "rows/s": batch * len(times_s) / sum(times_s),
        "GPU busy %": mean(readings) if readings else "not read",
    }
