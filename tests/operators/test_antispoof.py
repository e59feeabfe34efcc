"""A head's verdicts: one per track, evidence over time, and what becomes of everything odd."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import Batch, Frame, OperatorError, Stamp
from engine.frame import record_from_wire, record_to_wire
from engine.testing import HarnessContext, run_operator
from operators.events import EVENT_CAPS
from operators.face.antispoof import AntiSpoof
from operators.face.encode import FEATURE_CAPS, EncodedFace
from operators.face.pad_head import CameraScale, logit
from operators.face.pad_node import SHIPPED, PadConfig
from operators.face.verdicts import HeadVerdict
from operators.nn.pad.calibration import LabelledCalibration, RealOnlyCalibration
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.head import open_head
from tests.operators.models import DIM, backbone_sha, certain_head, save_random_head

BOX = (10.0, 10.0, 120.0, 140.0)


def encoded(track_id: int, row: int = 0, **changes: Any) -> EncodedFace:
    fields: dict[str, Any] = {
        "box": BOX,
        "quality": 1.0,
        "reason": "",
        "backbone_sha": backbone_sha(),
    }
    return EncodedFace(track_id, row, **(fields | changes))


def frame(
    *faces: EncodedFace, ms: int = 0, stream: str = "cam", data: Any = None, synthetic: bool = False
) -> Frame:
    count = max((face.row for face in faces), default=-1) + 1
    if data is None:
        data = np.random.default_rng([ms, *stream.encode()]).normal(size=(count, 5, DIM))
    stamp = Stamp(stream, ms, Fraction(1, 1000), ms * 1_000_000, ms, synthetic=synthetic)
    return Frame(np.asarray(data, np.float16), FEATURE_CAPS, stamp, faces)


def opened(checkpoint: Path | str, ctx: HarnessContext | None = None, **config: Any) -> AntiSpoof:
    operator = AntiSpoof(PadConfig(checkpoint=str(checkpoint), **config))
    operator.open(ctx or HarnessContext())
    return operator


def said(operator: AntiSpoof, *frames: Frame) -> list[HeadVerdict]:
    made = operator.process(Batch(frames)).frames
    return [verdict for one in made for verdict in one.of(HeadVerdict)]


@pytest.fixture
def head(tmp_path: Path) -> Path:
    calibration = RealOnlyCalibration(tuple(np.linspace(0.2, 0.9, 50).tolist()), 0.9)
    threshold = Threshold(0.4, "bpcer", 0.05, "door faces", 50, 0)
    return save_random_head(tmp_path / "h.safetensors", calibration, thresholds={"": threshold})


# ---- a verdict


def test_a_verdict_says_all_that_the_record_asks_for(head: Path) -> None:
    features = frame(encoded(7), ms=40)
    (made,) = opened(head).process(Batch((features,))).frames
    assert (made.caps, made.stamp, made.data.size) == (EVENT_CAPS, features.stamp, 0)
    (verdict,) = made.of(HeadVerdict)
    known = open_head(head)
    scores = known(torch.from_numpy(features.data.astype(np.float32)))
    assert verdict.score_real == pytest.approx(float(scores.score_real[0]))
    assert known.calibration is not None
    expected = float(known.calibration.log_odds(np.array(verdict.score_real)))
    assert verdict.log_odds == pytest.approx(expected)
    assert verdict.score == pytest.approx(np.clip(expected, -4, 4))
    assert 0 < (verdict.p_value or 0) <= 1
    assert verdict.nearest == known.elements[int(scores.nearest[0])]
    assert verdict.checkpoint == known.sha
    assert verdict.backbone_sha == backbone_sha()
    assert (verdict.track_id, verdict.head, verdict.attack) == (7, "antispoof", "presentation")
    assert (verdict.status, verdict.reason, verdict.schema) == ("scored", "", "pad/1")
    assert (verdict.threshold, verdict.threshold_target) == (0.4, "bpcer=0.05")
    assert verdict.threshold_set_on == "door faces"
    assert (verdict.state, verdict.n_scored, verdict.scored_pts_ns) == ("undecided", 1, 40_000_000)
    assert record_from_wire(*record_to_wire(verdict)) == verdict


@pytest.mark.parametrize(("log_odds", "state"), [(4.0, "live"), (-4.0, "attack")])
def test_evidence_adds_up_over_time(log_odds: float, state: str) -> None:
    operator = opened(certain_head(log_odds), profile="convenience")
    states: list[str] = []
    for n in range(12):
        states += [verdict.state for verdict in said(operator, frame(encoded(1), ms=100 * n))]
    first = states.index(state)
    assert first >= 3, "not before 300 ms"
    assert states == ["undecided"] * first + [state] * (12 - first)


def test_the_profile_is_that_of_the_test() -> None:
    needed = {}
    for profile in ("convenience", "balanced", "secure"):
        operator = opened(certain_head(4.0), profile=profile)
        verdicts = [said(operator, frame(encoded(1), ms=100 * n))[0] for n in range(15)]
        assert {verdict.profile for verdict in verdicts} == {profile}
        needed[profile] = [verdict.state for verdict in verdicts].index("live")
    assert needed["convenience"] < needed["balanced"] < needed["secure"]


def test_a_batch_over_streams_is_the_same_as_one_by_one(head: Path) -> None:
    frames = [
        frame(encoded(1), encoded(2, 1), ms=0, stream="a"),
        frame(encoded(1), ms=0, stream="b"),
        frame(ms=40, stream="a"),
        frame(encoded(2), encoded(1, -1, reason="LATER"), ms=80, stream="a"),
    ]
    together = opened(head).process(Batch(tuple(frames))).frames
    alone = run_operator(AntiSpoof(PadConfig(checkpoint=str(head))), frames)
    assert [made.stamp for made in together] == [one.stamp for one in frames]
    for mine, other in zip(together, alone, strict=True):
        assert len(mine.records) == len(other.records)
        for a, b in zip(mine.of(HeadVerdict), other.of(HeadVerdict), strict=True):
            assert (a.track_id, a.status, a.n_scored) == (b.track_id, b.status, b.n_scored)
            assert a.llr == pytest.approx(b.llr, abs=1e-5)


def test_all_faces_of_a_batch_go_through_the_head_in_one_pass(
    head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = opened(head)
    sizes = []
    known = operator._head
    assert known is not None

    def counting(features: torch.Tensor) -> Any:
        sizes.append(len(features))
        return type(known).__call__(known, features)

    for name in ("backbone_sha", "dim", "elements", "attack", "sha", "calibration", "thresholds"):
        setattr(counting, name, getattr(known, name))
    monkeypatch.setattr(operator, "_head", counting)
    said(operator, frame(encoded(1), encoded(2, 1)), frame(encoded(1), stream="b"), frame(ms=40))
    assert sizes == [3]


# ---- what a score means


def test_without_a_calibration_the_threshold_is_where_the_log_odds_are_0(tmp_path: Path) -> None:
    threshold = Threshold(0.7, "eer", 0.0, "dev", 9, 9)
    path = save_random_head(tmp_path / "h", None, thresholds={"": threshold})
    scale = CameraScale(open_head(path), "cam")
    assert scale.log_odds(0.7) == pytest.approx(0.0)
    assert scale.log_odds(0.9) == pytest.approx(logit(0.9) - logit(0.7))
    assert scale.p_value(0.9) is None


def test_a_camera_moves_the_calibration_by_its_own_threshold(tmp_path: Path) -> None:
    thresholds = {
        "": Threshold(0.5, "bpcer", 0.05, "all", 99, 0),
        "dark": Threshold(0.2, "bpcer", 0.05, "the dark one", 99, 0),
    }
    calibration = LabelledCalibration(2.0, -0.5, "logit")
    head = open_head(save_random_head(tmp_path / "h", calibration, thresholds=thresholds))
    usual, dark = CameraScale(head, "door"), CameraScale(head, "dark")
    assert usual.log_odds(0.5) == pytest.approx(-0.5)
    assert dark.log_odds(0.2) == pytest.approx(-0.5), "as real there as 0.5 is elsewhere"
    assert dark.log_odds(0.5) > usual.log_odds(0.5)
    assert usual.threshold_fields["threshold"] == 0.5
    assert dark.threshold_fields["threshold_set_on"] == "the dark one"


def test_each_stream_is_judged_as_its_camera(tmp_path: Path) -> None:
    thresholds = {
        camera: Threshold(value, "bpcer", 0.05, "faces", 99, 0)
        for camera, value in (("", 0.5), ("dark", 0.01))
    }
    operator = opened(save_random_head(tmp_path / "h", None, thresholds=thresholds))
    same = np.ones((1, 5, DIM))
    (bright,) = said(operator, frame(encoded(1), stream="door", data=same))
    (dark,) = said(operator, frame(encoded(1), stream="dark", data=same))
    assert bright.score_real == dark.score_real
    assert bright.log_odds is not None
    assert dark.log_odds is not None
    assert dark.log_odds - bright.log_odds == pytest.approx(logit(0.5) - logit(0.01))
    assert (bright.threshold, dark.threshold) == (0.5, 0.01)


@pytest.mark.parametrize(
    ("calibration", "thresholds", "message"),
    [
        (None, {}, "neither calibration nor threshold"),
        (LabelledCalibration(1.0, 0.0, "logit"), {"dark": 0.5}, "no default one"),
        (None, {"": 1.5}, r"\[0, 1\]"),
    ],
)
def test_a_checkpoint_whose_scores_mean_nothing_is_refused(
    calibration: Any, thresholds: dict[str, float], message: str, tmp_path: Path
) -> None:
    made = {name: Threshold(v, "bpcer", 0.05, "faces", 99, 0) for name, v in thresholds.items()}
    path = save_random_head(tmp_path / "h", calibration, thresholds=made)
    with pytest.raises(OperatorError, match=message) as caught:
        opened(path)
    assert caught.value.code == "BAD_CHECKPOINT"
    (verdict,) = said(opened(path, required=False), frame(encoded(1)))
    assert verdict.status == "error"


# ---- what cannot be scored


@pytest.mark.parametrize(
    ("face", "data", "status", "reason"),
    [
        (encoded(1, backbone_sha="f" * 64), None, "error", "features of weights ffff"),
        (encoded(1), np.ones((1, 5, DIM + 1)), "error", "features of shape"),
        (encoded(1), np.ones((1, DIM)), "error", "features of shape"),
        (encoded(1, 3), np.ones((1, 5, DIM)), "error", "no row 3"),
        (encoded(1), np.full((1, 5, DIM), np.nan), "error", "not finite"),
        (encoded(1, quality=0.0), None, "skipped", "quality 0"),
        (encoded(1, quality=float("nan")), None, "skipped", "quality nan"),
        (encoded(1, -1, reason="TOO_SMALL"), None, "skipped", "too small"),
        (encoded(1, -1, reason="OUTSIDE"), None, "skipped", "not wholly on the frame"),
        (encoded(1, -1, reason="NO_COLOUR"), None, "skipped", "no colour"),
        (encoded(1, -1, reason="SYNTHETIC"), None, "refused_synthetic", ""),
    ],
)
def test_what_cannot_be_scored_is_told_and_is_no_evidence(
    face: EncodedFace, data: Any, status: str, reason: str
) -> None:
    operator = opened(certain_head(4.0))
    (verdict,) = said(operator, frame(face, data=data))
    assert verdict.status == status
    assert reason in verdict.reason
    assert (verdict.state, verdict.n_scored, verdict.score_real) == ("undecided", 0, None)


def test_one_bad_face_does_not_spoil_the_others() -> None:
    data = np.ones((2, 5, DIM))
    data[0] = np.inf
    verdicts = said(opened(certain_head(4.0)), frame(encoded(1), encoded(2, 1), data=data))
    assert [verdict.status for verdict in verdicts] == ["error", "scored"]


def test_features_of_synthetic_frames_are_refused_whatever_their_records_say() -> None:
    (verdict,) = said(opened(certain_head(4.0)), frame(encoded(1), synthetic=True))
    assert verdict.status == "refused_synthetic"


def test_a_failure_stands_until_the_face_is_tried_again() -> None:
    operator = opened(certain_head(4.0))
    later = encoded(1, -1, reason="LATER")
    assert said(operator, frame(later))[0].status == "skipped"
    said(operator, frame(encoded(1), ms=40, data=np.full((1, 5, DIM), np.nan)))
    assert said(operator, frame(later, ms=80))[0].status == "error"
    assert said(operator, frame(encoded(1), ms=120))[0].status == "scored"
    assert said(operator, frame(later, ms=160))[0].status == "skipped"


def test_a_head_that_raises_is_an_error_of_these_faces_and_told_once(
    head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = HarnessContext()
    operator = opened(head, ctx)

    def broken(self: Any, features: torch.Tensor) -> Any:
        raise RuntimeError("out of memory")

    assert operator._head is not None
    monkeypatch.setattr(type(operator._head), "__call__", broken)
    for ms in (0, 40):
        (verdict,) = said(operator, frame(encoded(1), ms=ms))
        assert (verdict.status, verdict.reason) == ("error", "RuntimeError: out of memory")
    assert len(ctx.reports) == 1
    monkeypatch.undo()
    assert said(operator, frame(encoded(1), ms=80))[0].status == "scored"


# ---- checkpoints


def damaged(path: Path) -> Path:
    data = bytearray(save_random_head(path).read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def absent(path: Path) -> Path:
    return path


def no_file_of_ours(path: Path) -> Path:
    path.write_bytes(b"x" * 100)
    return path


BAD = [
    (absent, "NO_CHECKPOINT", "no_checkpoint"),
    (damaged, "BAD_CHECKPOINT", "error"),
    (no_file_of_ours, "BAD_CHECKPOINT", "error"),
]


@pytest.mark.parametrize(("make", "code", "status"), BAD)
def test_a_required_checkpoint_that_does_not_do_stops_the_start(
    make: Any, code: str, status: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "head.safetensors")
    with pytest.raises(OperatorError, match=r"head\.safetensors") as caught:
        opened(path)
    assert caught.value.code == code
    assert caught.value.permanent


@pytest.mark.parametrize(("make", "code", "status"), BAD)
def test_without_a_required_one_it_goes_on_and_says_so_of_every_face(
    make: Any, code: str, status: str, tmp_path: Path
) -> None:
    ctx = HarnessContext()
    operator = opened(make(tmp_path / "head.safetensors"), ctx, required=False)
    verdicts = said(operator, frame(encoded(1), encoded(2, -1, reason="LATER")))
    assert [verdict.status for verdict in verdicts] == [status] * 2
    assert all("head.safetensors" in verdict.reason for verdict in verdicts)
    assert [told for told, _ in ctx.reports] == [code]


def test_check_looks_for_the_checkpoint_only_where_it_is_required() -> None:
    shipped = {"checkpoint": SHIPPED / "antispoof.safetensors"}
    assert AntiSpoof.checkpoints(PadConfig()) == shipped
    assert AntiSpoof.checkpoints(PadConfig(checkpoint="a.b")) == {"checkpoint": Path("a.b")}
    assert AntiSpoof.checkpoints(PadConfig(required=False)) == {}


# ---- the end of tracks and streams


def test_a_reset_forgets_the_stream_and_no_other() -> None:
    operator = opened(certain_head(4.0))
    for ms in range(0, 1500, 100):
        for stream in ("a", "b"):
            (verdict,) = said(operator, frame(encoded(1), ms=ms, stream=stream))
    assert verdict.state == "live"
    operator.reset("a")
    operator.reset("never seen")
    (again,) = said(operator, frame(encoded(1), ms=1600, stream="a"))
    (other,) = said(operator, frame(encoded(1), ms=1600, stream="b"))
    assert (again.state, again.n_scored) == ("undecided", 1)
    assert other.state == "live"


def test_tracks_that_are_gone_are_forgotten() -> None:
    operator = opened(certain_head(4.0))
    for track_id in range(50):
        said(operator, frame(encoded(track_id), ms=track_id * 1000))
    assert len(operator._test) <= 7
    assert len(operator._last["cam"]) == 1
