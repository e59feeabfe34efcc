"""The ports of an operator are what the signature of `process` says."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, Optional

import pytest
from msgspec import Meta

from engine import Batch, Caps, Config, Frame, Latest, NoConfig, Operator
from engine.contract import Port

Gray = Annotated[Frame, Caps(pix_fmt="gray")]


class Pair(NamedTuple):
    video: Gray
    audio: Frame | None


class Everything(Operator):
    def process(
        self,
        plain: Frame,
        gray: Gray,
        many: Batch[Gray],
        prompt: Latest[Gray],
        maybe: Optional[Frame],  # noqa: UP045  the other spelling
        perhaps: Gray | None,
    ) -> Pair | None:
        return None


def test_inputs_follow_the_parameters_in_order() -> None:
    gray = Caps(pix_fmt="gray")
    assert Everything.inputs == {
        "plain": Port("plain", Caps()),
        "gray": Port("gray", gray),
        "many": Port("many", gray, "batch"),
        "prompt": Port("prompt", gray, "latest"),
        "maybe": Port("maybe", Caps(), optional=True),
        "perhaps": Port("perhaps", gray, optional=True),
    }
    assert list(Everything.inputs) == ["plain", "gray", "many", "prompt", "maybe", "perhaps"]


def test_the_fields_of_a_named_tuple_are_outputs() -> None:
    assert Everything.outputs == {
        "video": Port("video", Caps(pix_fmt="gray")),
        "audio": Port("audio", Caps(), optional=True),
    }


class Source(Operator):
    def process(self) -> Gray:
        raise NotImplementedError


class Sink(Operator):
    def process(self, frames: Frame) -> None:
        return None


class Splitter(Operator):
    def process(self, frames: Frame) -> list[Gray]:
        return []


class Batcher(Operator):
    def process(self, frames: Batch[Frame]) -> Batch[Gray]:
        return frames


def test_sources_sinks_lists_and_batches() -> None:
    assert (Source.inputs, list(Source.outputs)) == ({}, ["out"])
    assert (list(Sink.inputs), Sink.outputs) == (["frames"], {})
    assert Splitter.outputs["out"].caps.pix_fmt == "gray"
    assert Batcher.outputs["out"] == Port("out", Caps(pix_fmt="gray"), "batch")


def test_a_missing_annotation_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"Loose\.process: frames, return has no type"):

        class Loose(Operator):
            def process(self, frames):  # type: ignore[no-untyped-def]
                return frames


def test_a_port_must_carry_frames() -> None:
    with pytest.raises(TypeError, match=r"Counter\.process: port 'n' must carry Frame, not .*int"):

        class Counter(Operator):
            def process(self, n: int) -> None:
                return None


class SharpenConfig(Config, frozen=True):
    amount: Annotated[float, Meta(ge=0)] = 1.0


class Sharpen(Operator[SharpenConfig]):
    def process(self, frames: Gray) -> Annotated[Frame, Caps(like="frames")]:
        return frames


class SharpenMore(Sharpen):
    """Keeps the signature of its base."""


def test_the_config_type_is_the_type_argument() -> None:
    assert Sharpen.config_type is SharpenConfig
    assert SharpenMore.config_type is SharpenConfig
    assert Source.config_type is NoConfig
    assert Sharpen(SharpenConfig(amount=2)).config.amount == 2


def test_a_subclass_inherits_ports_and_siblings_share_nothing() -> None:
    assert SharpenMore.inputs == Sharpen.inputs
    assert Sink.inputs is not Splitter.inputs
    assert Operator.inputs == {}


def test_output_caps_are_the_signatures_unless_overridden() -> None:
    assert Sharpen.output_caps(SharpenConfig(), "out") == Caps(like="frames")


def test_only_a_network_sink_reaches_beyond_the_host() -> None:
    class Push(Sink):
        network_sink = True

    assert Push.reaches_beyond_host(NoConfig())
    assert not Sink.reaches_beyond_host(NoConfig())


def test_the_base_class_says_that_process_is_missing() -> None:
    class Empty(Operator[Any]):
        """Forgot its process."""

    with pytest.raises(NotImplementedError, match="Empty has no process"):
        Empty(NoConfig()).process()
