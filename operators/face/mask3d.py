"""Is it a face, or a mask of one: knowledge prompts on the features of a face and its parts."""

from __future__ import annotations

from engine import Batch
from operators.face.pad_node import PadNode
from operators.ports import Features, Verdicts


class Mask3d(PadNode):
    """Frames of `EncodedFace` features in; a `HeadVerdict` per track out, with the same stamps."""

    head_name = "mask3d"

    def process(self, features: Batch[Features]) -> Batch[Verdicts]:
        return self.judge(features)
