"""The commands about models: names, options and help, as in `engine.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of media, in the layout the recipe asks for.")
]
CheckpointOption = Annotated[
    Path | None, typer.Option(help="File of a checkpoint.  [default: the one that comes along]")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder for results.  [default: out/RECIPE]")
]

EnginesOption = Annotated[
    Path | None,
    typer.Option("--dir", help="Folder of engines.  [default: FRAMELOOM_ENGINES, or the cache]"),
]
engines = typer.Typer(
    help="Compiled models that are kept on disk: list, build, clear.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def train(  # noqa: PLR0913  one parameter per option
    recipe: Annotated[
        str | None, typer.Argument(help="What to train; without it, a list of recipes.")
    ] = None,
    data: DataOption = None,
    config: Annotated[str, typer.Option(help="compact or paper.")] = "compact",
    out: OutOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change the config; may be repeated."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="Stop after that; go on next time.")
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Train every checkpoint that is due, one by one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model. Ctrl-C saves; the same command goes on where it stopped."""
    from engine.commands.train import TrainOptions, train_command

    options = TrainOptions(data, config, out, tuple(settings or ()), minutes, as_json)
    raise typer.Exit(train_command(recipe, options, queue=queue))


def evaluate(
    recipe: Annotated[str, typer.Argument(help="What to judge.")],
    data: DataOption = None,
    checkpoint: CheckpointOption = None,
    out: OutOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="e.g. protocol=domains"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a checkpoint on a folder of media: tables and pictures."""
    from engine.commands.train import judge_command

    given = (data, checkpoint, out)
    judge_command("evaluate", recipe, given, tuple(settings or ()), as_json=as_json)


def calibrate(
    recipe: Annotated[str, typer.Argument(help="What to calibrate.")],
    data: DataOption = None,
    checkpoint: CheckpointOption = None,
    out: OutOption = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="e.g. bpcer=0.01")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a checkpoint's thresholds to media of one's own."""
    from engine.commands.train import judge_command

    given = (data, checkpoint, out)
    judge_command("calibrate", recipe, given, tuple(settings or ()), as_json=as_json)


def models(
    file: Annotated[
        Path | None, typer.Argument(help="A .safetensors file: show its descriptor and card.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Checkpoints that come along, or what one says of itself: its card."""
    from engine.commands.models import models_command

    models_command(file, as_json=as_json)


@engines.command("list")
def list_engines(folder: EnginesOption = None, as_json: JsonOption = False) -> None:
    """What is kept: for which network, backend and machine, and when it was last used."""
    from engine.commands.engines import list_command

    list_command(folder, as_json=as_json)


@engines.command("build")
def build_engines(  # noqa: PLR0913  one parameter per option
    names: Annotated[
        list[str] | None, typer.Argument(help="Networks that come along; without any, all.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="auto, eager, onnxruntime, openvino, tensorrt, tensorrt-rtx, aot, inductor."
        ),
    ] = "auto",
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda or cuda:N.  [default: cuda for TensorRT, else cpu]"),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        typer.Option(help="The lowest that is allowed.  [default: all that a network stands]"),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Of a processor: a graph with more nodes than cores gives 1.")
    ] = 1,
    folder: EnginesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build ahead what a first start would build. TensorRT-RTX does so without a GPU, too."""
    from engine.commands.engines import BuildOptions, build_command

    options = BuildOptions(backend, device, threads, precision, folder, as_json)
    raise typer.Exit(build_command(names or [], options))


@engines.command("clear")
def clear_engines(
    keys: Annotated[
        list[str] | None, typer.Argument(help="How keys begin; without any, all engines.")
    ] = None,
    folder: EnginesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete engines; exit code 1 if one is in use and therefore stays."""
    from engine.commands.engines import clear_command

    raise typer.Exit(clear_command(keys or [], folder, as_json=as_json))
