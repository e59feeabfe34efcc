"""A head as its node needs it: read from its file, and what its scores mean at one camera.

With a calibration in the checkpoint it gives the log-odds. A camera's own threshold moves it: light
and lens move all scores of a camera together (method notes, 2.4), on the scale where prompts add,
the logit; so the camera's scores are moved by the distance of its threshold from the default one
before they are calibrated [inferred: both thresholds hold the same share of real faces, so what
lies at one is as real as what lies at the other]. Without a calibration the log-odds are the logit
of the score less that of the threshold: no slope is known, but the sign is right. Without either a
score means nothing, and that is an error.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import OpContext, OperatorError

if TYPE_CHECKING:
    from operators.nn.prompts.head import PadHead


class CameraScale:
    """Made once per camera. ValueError where the checkpoint does not say what scores mean."""

    def __init__(self, head: PadHead, camera: str) -> None:
        """`camera`: stream id; one without a threshold of its own has the default, ""."""
        from operators.nn.pad.calibration import LabelledCalibration, RealOnlyCalibration

        default = head.thresholds.get("")
        own = head.thresholds.get(camera, default)
        self._shift = 0.0  # added to the logit of a score
        self._live_score: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self.threshold_fields: dict[str, Any] = {}
        if head.calibration is None:
            if own is None:
                raise ValueError("neither calibration nor threshold: its scores mean nothing")
            self._calibration: Any = LabelledCalibration(1.0, -logit(own.value), "logit")
        else:
            self._calibration = head.calibration
            if own is not default:
                if default is None or own is None:
                    raise ValueError(f"a threshold for camera {camera!r} but no default one")
                self._shift = logit(default.value) - logit(own.value)
            if isinstance(head.calibration, RealOnlyCalibration):
                self._live_score = np.array(head.calibration.live_score)
        if own is not None:
            self.threshold_fields = {
                "threshold": own.value,
                "threshold_target": f"{own.rule}={own.target:g}",
                "threshold_set_on": own.set_on,
            }

    def log_odds(self, score: float) -> float:
        """score_real in [0, 1] -> log-odds of live."""
        return float(self._calibration.log_odds(np.array(self._moved(score))))

    def p_value(self, score: float) -> float | None:
        """(1 + real faces with a score up to this one) / (n + 1); None without such faces."""
        from operators.nn.pad.conformal import p_value

        if self._live_score is None:
            return None
        return float(p_value(self._live_score, np.array(self._moved(score))))

    def _moved(self, score: float) -> float:
        if not self._shift:
            return score
        return 0.5 * (1.0 + math.tanh((logit(score) + self._shift) / 2))


def logit(score: float) -> float:
    """Log-odds of a probability, floored as the calibration does; ValueError outside [0, 1]."""
    from operators.nn.pad.calibration import LabelledCalibration

    return float(LabelledCalibration(1.0, 0.0, "logit").log_odds(np.array(score)))


def load_head(path: Path, name: str, ctx: OpContext) -> PadHead:
    """The head of that name; OperatorError says what is wrong with the file."""
    try:
        import torch
    except ImportError as error:
        message = f"this node needs torch ({error}): pip install 'frameloom[models]'"
        raise OperatorError("MISSING_PACKAGE", message) from error
    from operators.nn.prompts.head import open_head

    torch.set_num_threads(ctx.threads)
    try:
        head = open_head(path)
    except FileNotFoundError as error:
        message = f"{path}: there is no such checkpoint; `frameloom train` makes one"
        raise OperatorError("NO_CHECKPOINT", message) from error
    except (ValueError, OSError) as error:
        raise OperatorError("BAD_CHECKPOINT", f"{path}: {error}") from error
    if head.name != name:
        message = f"{path}: is a checkpoint of {head.name}, and this node is {name}"
        raise OperatorError("BAD_CHECKPOINT", message)
    try:
        for camera in ("", *head.thresholds):
            CameraScale(head, camera)
    except ValueError as error:
        raise OperatorError("BAD_CHECKPOINT", f"{path}: {error}") from error
    return head
