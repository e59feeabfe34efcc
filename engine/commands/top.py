"""`frameloom top`: a live table of a graph that runs elsewhere, made from its metrics."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from rich.live import Live

from engine.commands.console import CommandError, stdout
from engine.commands.tables import live_view
from engine.telemetry.prometheus import parse_metrics
from engine.telemetry.stats import RunSnapshot

TIMEOUT_S = 3.0


def top_command(url: str, *, every_s: float, once: bool) -> None:
    """Show the table until Ctrl-C, or until the graph has ended."""
    snapshot = fetch(url)
    if once:
        stdout().print(live_view(snapshot))
        return
    try:
        with Live(live_view(snapshot), console=stdout(), auto_refresh=False) as live:
            while True:
                time.sleep(every_s)
                live.update(live_view(fetch(url)), refresh=True)
    except KeyboardInterrupt:
        return


def fetch(url: str) -> RunSnapshot:
    """The snapshot behind a metrics address."""
    if not url.startswith(("http://", "https://")):
        raise CommandError(f"{url} is no http:// address of metrics")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, TimeoutError, ConnectionError, UnicodeDecodeError) as error:
        reason = getattr(error, "reason", error)
        raise CommandError(
            f"{url} does not answer: {reason}; is a graph running there, with its page on?"
        ) from error
    return parse_metrics(text)
