"""The command line: names, options and help. What a command does is in `engine.commands`.

Everything heavy is imported inside a command, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from engine.cli_models import JsonOption, calibrate, engines, evaluate, models, train

EXIT_CODES = (
    "Exit codes: 0 done, or stopped on request · 1 a node, a stream or a worker failed · "
    "2 the graph or the command is wrong, nothing ran · 3 came to its end, but frames were "
    "quarantined or lost with a worker."
)
DEFAULT_PORT = 8700

app = typer.Typer(
    name="frameloom",
    help="Streaming, real-time video engine: a typed graph of operators, fed by cameras and files.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich's help needs 0.15 s of imports, half of what `--help` may take
    context_settings={"help_option_names": ["-h", "--help"]},
)

GraphArgument = Annotated[
    str, typer.Argument(help="A graph file, or the name of a graph that comes along: guard.")
]
InputsArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders, /dev/videoN, URLs: each a stream of the graph's source."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NODE.FIELD=VALUE", help="Change the graph; may be repeated."),
]
ModeOption = Annotated[
    Literal["file", "live"] | None,
    typer.Option(help="file: nothing is lost; live: drops what is late. Default: by the inputs."),
]


@app.callback(invoke_without_command=True)
def frameloom(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"frameloom {version_of('frameloom')}")
        raise typer.Exit


@app.command(epilog=EXIT_CODES)
def run(  # noqa: PLR0913  one parameter per option
    graph: GraphArgument,
    inputs: InputsArgument = None,
    assignments: SetOption = None,
    mode: ModeOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for what sinks write.  [default: out/<graph>]")
    ] = None,
    as_json: JsonOption = False,
    page: Annotated[bool, typer.Option(help="Serve the live page on this computer.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any free one.")] = (
        DEFAULT_PORT
    ),
    keys: Annotated[
        Path | None, typer.Option(help="Folder with CURVE keys for links between hosts.")
    ] = None,
    keep_open: Annotated[
        bool, typer.Option("--keep-open", help="Go on when all streams have ended.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0, metavar="SECONDS", help="Stop after that.")
    ] = None,
) -> None:
    """Run a graph. Ctrl-C finishes what is inside and closes files; a second one ends at once."""
    from engine.commands.run import RunOptions, run_command

    options = RunOptions(
        out_dir=out,
        as_json=as_json,
        port=port if page else None,
        keys_dir=keys,
        keep_open=keep_open,
        seconds=seconds,
    )
    raise typer.Exit(run_command(graph, inputs or [], assignments or [], mode, options))


@app.command(epilog=EXIT_CODES)
def check(
    graph: GraphArgument,
    inputs: InputsArgument = None,
    assignments: SetOption = None,
    mode: ModeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a graph without running it: the plan and what it may cost, or every problem."""
    from engine.commands.check import check_command

    check_command(graph, inputs or [], assignments or [], mode, as_json=as_json)


@app.command()
def ops(
    name: Annotated[
        str | None, typer.Argument(help="An operator, or part of its name: all of its details.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the installed operators: ports, caps, config with units."""
    from engine.commands.ops import ops_command

    ops_command(name, as_json=as_json)


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write it to a file.")] = None,
) -> None:
    """Print the JSON schema of graph files, so that editors complete and check them."""
    from engine.commands.schema import schema_command

    schema_command(out)


@app.command()
def keygen(
    name: Annotated[str, typer.Argument(help="Of the host or person that the keys are for.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where to put them.")] = Path("keys"),
) -> None:
    """Make a CURVE key pair for links between hosts."""
    from engine.commands.keygen import keygen_command

    keygen_command(name, folder)


@app.command()
def doctor(
    graph: Annotated[
        str | None, typer.Argument(help="Also ask whether this graph can run here.")
    ] = None,
    inputs: InputsArgument = None,
    assignments: SetOption = None,
    mode: ModeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what this computer has and lacks. Exit code 1 if something required is broken, or the
    graph asks for what is not there.
    """
    from engine.commands.doctor import Asked, doctor_command

    asked = graph and Asked(graph, inputs or [], assignments or [], mode)
    raise typer.Exit(doctor_command(asked or None, as_json=as_json))


@app.command()
def top(
    url: Annotated[str, typer.Argument(help="The page of a running graph.")] = (
        f"http://127.0.0.1:{DEFAULT_PORT}"
    ),
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Look once and print.")] = False,
) -> None:
    """Watch a running graph: a live table made from its metrics."""
    from engine.commands.top import top_command

    top_command(url, every_s=every, once=once)


app.command()(train)
app.command("eval")(evaluate)
app.command()(calibrate)
app.command()(models)
app.add_typer(engines, name="engines")


def main() -> None:
    """Entry point: expected errors become a message and an exit code, never a traceback."""
    from engine.errors import EngineError

    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        sys.exit("error: the current folder does not exist any more: cd to another one")
    if here not in sys.path:
        sys.path.append(here)  # operators of one's own; last, so that they hide nothing
    try:
        app()
    except EngineError as error:
        if "--debug" in sys.argv:
            raise
        from engine.commands.console import EXIT_USAGE, print_error

        print_error(error)
        sys.exit(EXIT_USAGE)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.exit("error: standard output is a full disk: what was found cannot be written there")


if __name__ == "__main__":
    main()
