"""Is it a person, or a picture of one: unknown-spoof prompts on the features of a face."""

from __future__ import annotations

from engine import Batch
from operators.face.pad_node import PadNode
from operators.ports import Features, Verdicts


class AntiSpoof(PadNode):
    """Frames of `EncodedFace` features in; a `HeadVerdict` per track out, with the same stamps."""

    head_name = "antispoof"

    def process(self, features: Batch[Features]) -> Batch[Verdicts]:
        return self.judge(features)
