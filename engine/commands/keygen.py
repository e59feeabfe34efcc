"""`frameloom keygen`: a CURVE key pair."""

from __future__ import annotations

import re
from pathlib import Path

from engine.commands.console import CommandError, stdout
from engine.transport.keys import new_keypair


def keygen_command(name: str, folder: Path) -> None:
    """Make the pair and say what to do with it."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise CommandError(f"'{name}' is no name for a key: letters, digits, `.`, `_` and `-`")
    try:
        public, secret = new_keypair(folder, name)
    except OSError as error:
        raise CommandError(str(error)) from error
    console = stdout()
    for line in (
        f"{public}: give it to every host that may exchange frames with this one",
        f"{secret}: stays here, mode 600; `frameloom run ... --keys {folder}` uses both",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
