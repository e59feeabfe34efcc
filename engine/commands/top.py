"""`frameloom top`: a live table of a graph that runs elsewhere, made from its metrics."""

from __future__ import annotations

import http.client
import time
import urllib.request
from urllib.parse import urlsplit

from rich.live import Live

from engine.commands.console import CommandError, stdout
from engine.commands.tables import live_view
from engine.telemetry.prometheus import parse_metrics
from engine.telemetry.stats import RunSnapshot

TIMEOUT_S = 3.0


def metrics_url(address: str) -> str:
    """Where the metrics of a page are: `localhost:8700` and the page's address mean the same."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"{address} is no address of a page: give http://HOST:PORT/")
    return parts._replace(path=parts.path if parts.path.strip("/") else "/metrics").geturl()


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


def fetch(address: str) -> RunSnapshot:
    """The snapshot behind the address of a page or of its metrics; `http://` may be left out."""
    url = metrics_url(address)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode()
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
        UnicodeDecodeError,
    ) as error:
        reason = getattr(error, "reason", error)
        raise CommandError(
            f"{url} does not answer: {reason}; is a graph running there, with its page on?"
        ) from error
    return parse_metrics(text)
