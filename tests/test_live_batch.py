"""`pixserve embed` against the real Triton."""

import json
import signal
import subprocess
import time

import numpy as np
import pytest

from ensembles.bundle import list_bundles
from gateway.errors import Unavailable
from gateway.triton import Triton, served_bundle
from loadtest.queries import unique_queries
from tests.media import image_bytes
from tests.stacks import PIXSERVE
from tests.waiting import until

pytestmark = pytest.mark.live

# Of a text alone and in a batch. Dynamic int8 has one scale a batch: 0.984 was measured.
COSINE_LEAST = {"fp32": 0.9999, "int8": 0.97}


def embed(demo, *arguments, code=0):
    """Run the command with --json and return its summary and what it wrote to standard error."""
    command = [PIXSERVE, "embed", *arguments, "--json", "--data-dir", demo.stack.data_dir]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def cosines(left, right):
    return np.sum(left * right, axis=1)


@pytest.mark.anyio
async def test_a_server_tells_the_bundle_that_it_serves(demo):
    (exported,) = list_bundles(demo.stack.data_dir / "models", "mini")
    served = await served_bundle(demo.stack.part("triton").address, timeout_s=5)
    assert served.version == exported.version
    for size in ("vision", "sentence", "audio", "fused", "image_size_px"):
        assert getattr(served.dims, size) == getattr(exported.dims, size)
    with pytest.raises(Unavailable):
        await served_bundle("127.0.0.1:1", timeout_s=5)


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "width"), [("sentence", 384), ("clip", 128)])
async def test_each_text_has_in_its_row_the_vector_it_has_alone(demo, tmp_path, kind, width):
    words = unique_queries(2_000)
    texts = [" ".join(words[i : i + 1 + i % 9]) for i in range(300)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    out = tmp_path / "e.npy"
    summary, _ = embed(demo, tmp_path / "texts.txt", "--out", out, "--encoder", kind)
    assert (summary["count"], summary["embedded"], summary["failed"]) == (300, 300, 0)
    assert summary["model_version"] == "mini-1"
    vectors = np.load(out)
    assert vectors.shape == (300, width)
    (bundle,) = list_bundles(demo.stack.data_dir / "models", "mini")
    least = COSINE_LEAST[bundle.precisions["sentence" if kind == "sentence" else "clip_text"]]
    door = Triton(demo.stack.part("triton").address, bundle)
    for row in range(0, 300, 29):
        one = [texts[row]]
        if kind == "sentence":
            alone = await door.embed_text(one, "passage", timeout_s=10)
        else:
            alone = await door.embed_clip_text(one, timeout_s=10)
        assert alone[0] @ vectors[row] >= least
    await door.close()


def test_10_000_texts_go_in_one_call_of_the_command(demo, tmp_path):
    words = unique_queries(10_000)
    (tmp_path / "texts.txt").write_text("".join(f"{text.split()[0]}\n" for text in words))
    summary, _ = embed(demo, tmp_path / "texts.txt", "--out", tmp_path / "e.npy")
    assert summary["embedded"] == 10_000
    vectors = np.load(tmp_path / "e.npy")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


def test_bad_lines_are_told_by_number_and_the_others_are_embedded(demo, tmp_path):
    source = tmp_path / "texts.txt"
    source.write_bytes(b"bread\n\n" + b"x" * 100_000 + b"\n\xff\xfe\nbread\n")
    summary, _ = embed(demo, source, "--out", tmp_path / "e.npy", code=1)
    assert (summary["embedded"], summary["empty"], summary["failed"]) == (2, 1, 2)
    assert [(e["id"], e["error"][:20]) for e in summary["errors"]] == [
        (3, "the text has 100,000"),
        (4, "the line is not UTF-"),
    ]
    vectors = np.load(tmp_path / "e.npy")
    assert np.isnan(vectors[1:4]).all()
    assert vectors[0] @ vectors[4] >= COSINE_LEAST["int8"]


def test_among_images_only_what_is_not_one_fails(demo, tmp_path):
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for number in range(20):
        kind = ("png", "jpeg", "webp")[number % 3]
        data = image_bytes(kind, time_s=number / 10)
        (folder / "more" / f"{number:02}.{kind}").write_bytes(data)
    (folder / "bad.png").write_text("this is not an image" * 60)
    (folder / "cut.jpg").write_bytes(image_bytes("jpeg")[:40])
    summary, _ = embed(demo, folder, "--out", tmp_path / "e.npy", "--batch", "16", code=1)
    assert (summary["embedded"], summary["failed"]) == (20, 2)
    assert {e["id"] for e in summary["errors"]} == {"bad.png", "cut.jpg"}
    vectors = np.load(tmp_path / "e.npy")
    assert np.isnan(vectors[:2]).all()
    np.testing.assert_allclose(np.linalg.norm(vectors[2:], axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_file(demo, tmp_path, kill):
    (tmp_path / "texts.txt").write_text("\n".join(unique_queries(20_000)))
    command = [PIXSERVE, "embed", tmp_path / "texts.txt", "--out", tmp_path / "e.npy"]
    process = subprocess.Popen([*command, "--data-dir", demo.stack.data_dir])
    until(lambda: any(path.suffix == ".partial" for path in tmp_path.iterdir()))
    time.sleep(0.5)
    process.send_signal(kill)
    assert process.wait(timeout=30) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_a_server_that_is_killed_meanwhile_is_waited_for(demo, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(unique_queries(1_500)))
    restarts = demo.stack.part("triton").restarts
    command = [PIXSERVE, "embed", tmp_path / "texts.txt", "--out", tmp_path / "e.npy"]
    # By its address: a stack that restarts Triton keeps it.
    process = subprocess.Popen([*command, "--triton", demo.stack.part("triton").address])
    until(lambda: any(path.suffix == ".partial" for path in tmp_path.iterdir()))
    time.sleep(0.5)
    demo.stack.processes("triton")[0].kill()
    assert process.wait(timeout=120) == 0
    assert np.isfinite(np.load(tmp_path / "e.npy")).all()
    until(lambda: demo.stack.part("triton").restarts > restarts and demo.stack.state.ready)
