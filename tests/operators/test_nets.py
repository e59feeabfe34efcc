"""The seam between detectors and what runs their networks: the same answers, whoever runs them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from engine import DeviceError, OperatorError
from engine.testing import HarnessContext, run_operator
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.mesh import FaceMesh, FaceMeshConfig
from operators.face.nets import Placement, TorchNet, open_net, placed, twin_of
from operators.face.records import Face, Landmarks
from tests.operators.faces import astronaut, crowd_of, picture

FILES = {
    "blazeface_short_range.tflite": (128, 128, 3),
    "face_mesh.tflite": (192, 192, 3),
    "centerface.onnx": (3, 96, 128),
}
EVERY = pytest.mark.parametrize("weights", FILES)
NEAR_PX = 0.02


@pytest.fixture(autouse=True)
def threads_as_before() -> object:
    """Opening a network with torch sets how many it may use."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def noise(weights: str, count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, *FILES[weights]), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["short", "full", "back", "crowd"])
def test_both_runtimes_find_the_same_faces(model: str) -> None:
    frame = picture(crowd_of(2))
    found = {}
    for runtime in ("native", "torch"):
        config = FaceDetectConfig(model=model, runtime=runtime, min_score=0.3)
        (after,) = run_operator(FaceDetect(config), [frame])
        found[runtime] = after.of(Face)
    assert len(found["native"]) >= 1
    for one, other in zip(found["native"], found["torch"], strict=True):
        assert one.score == pytest.approx(other.score, abs=2e-4)
        assert one.box == pytest.approx(other.box, abs=NEAR_PX)
        np.testing.assert_allclose(one.points, other.points, atol=NEAR_PX)


def test_both_runtimes_give_the_same_mesh() -> None:
    (found,) = run_operator(FaceDetect(FaceDetectConfig()), [picture(astronaut())])
    meshes = []
    for runtime in ("native", "torch"):
        (after,) = run_operator(FaceMesh(FaceMeshConfig(runtime=runtime)), [found])
        meshes += after.of(Landmarks)
    assert len(meshes) == 2
    assert meshes[0].presence == pytest.approx(meshes[1].presence, abs=2e-4)
    np.testing.assert_allclose(meshes[0].points, meshes[1].points, atol=NEAR_PX)


@EVERY
@pytest.mark.parametrize("runtime", ["native", "torch"])
def test_several_pictures_give_what_each_gives_alone(weights: str, runtime: str) -> None:
    net = open_net(weights, Placement(runtime))
    pictures = noise(weights, 3)
    alone = [net(pictures[n : n + 1]) for n in range(3)]
    together = net(pictures)
    assert {output.dtype for output in together} == {np.dtype(np.float32)}
    for n, output in enumerate(together):
        wanted = np.concatenate([outputs[n] for outputs in alone])
        np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-3)


@EVERY
@pytest.mark.parametrize("runtime", ["native", "torch"])
def test_outputs_belong_to_the_caller(weights: str, runtime: str) -> None:
    net = open_net(weights, Placement(runtime))
    first, second = noise(weights, 2)[:, None]
    before = net(first)
    kept = [output.copy() for output in before]
    net(second)
    for output, copy in zip(before, kept, strict=True):
        assert np.array_equal(output, copy)


def test_a_compiled_module_fits_the_same_seam() -> None:
    """Anything that takes and gives tensors does: a compiler's result is a plain callable."""
    module = twin_of("blazeface_short_range.tflite")
    seen = []

    def compiled(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append((x.shape, x.is_contiguous(memory_format=torch.channels_last)))
        return module(x)

    pictures = noise("blazeface_short_range.tflite", 2)
    regressed, scores = TorchNet(compiled, "cpu", channels_last=True)(pictures)
    assert seen == [((2, 3, 128, 128), True)]
    assert (regressed.shape, scores.shape) == ((2, 896, 16), (2, 896, 1))


@EVERY
def test_a_runtime_of_the_cpu_never_pretends_to_be_on_a_gpu(weights: str) -> None:
    with pytest.raises(DeviceError, match="knows the CPU only"):
        open_net(weights, Placement(device="cuda:0"))


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OperatorError, match=r"frameloom\[models\]") as caught:
        open_net("face_mesh.tflite", Placement("torch"))
    assert caught.value.code == "MISSING_PACKAGE"


@pytest.mark.slow
def test_the_files_own_runtimes_do_without_torch() -> None:
    code = (
        "import sys; from operators.face.nets import Placement, open_net;"
        f"[open_net(weights, Placement()) for weights in {list(FILES)}];"
        "assert 'ai_edge_litert' in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.needs_cuda
@pytest.mark.parametrize("model", ["full", "crowd"])
def test_a_gpu_finds_the_same_faces(model: str) -> None:
    """Through the finders, for a graph's node gets its device from the engine."""
    from operators.face.detect import FINDERS

    config = FaceDetectConfig(model=model)
    found = [
        FINDERS[model](config, place)(picture(crowd_of(2)), 0.3, 0.3)
        for place in (Placement(), Placement("torch", "cuda:0"))
    ]
    np.testing.assert_allclose(found[0].boxes, found[1].boxes, atol=1.0)
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=0.01)


def test_the_files_own_runtime_is_the_default() -> None:
    ctx = HarnessContext()
    for config in (FaceDetectConfig(), FaceMeshConfig()):
        assert placed(config.runtime, ctx).runtime == Placement().runtime == "native"
    ctx.device = "cuda:0"
    assert placed(FaceDetectConfig().runtime, ctx).runtime == "torch"
