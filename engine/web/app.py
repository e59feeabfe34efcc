"""What the page answers: itself, snapshots, previews as MJPEG, metrics. It changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from importlib import resources
from typing import Protocol

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from engine.telemetry.prometheus import metrics_text
from engine.telemetry.stats import RunSnapshot
from engine.telemetry.views import plain

LOOPBACK = ("127.0.0.1", "localhost")  # other Host headers are a rebound DNS name
BOUNDARY = "frame"
LOOK_S = 0.05  # how often a preview looks for a newer picture
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline';"
        " script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


class Shown(Protocol):
    """The run as the page sees it."""

    @property
    def previews(self) -> Mapping[str, bytes]: ...
    def snapshot(self) -> RunSnapshot: ...


def make_app(run: Shown, is_closing: Callable[[], bool]) -> Starlette:
    """The application; `is_closing` ends previews, which have no end of their own."""

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE, headers=HEADERS)

    async def snapshot(_: Request) -> Response:
        data = plain(run.snapshot()) | {"previews": sorted(list(run.previews))}  # noqa: C414  a copy: other threads add topics
        return Response(msgspec.json.encode(data), media_type="application/json", headers=HEADERS)

    async def metrics(_: Request) -> Response:
        return Response(metrics_text(run.snapshot()), media_type=CONTENT_TYPE_LATEST)

    async def health(_: Request) -> Response:
        states = [node.state for node in run.snapshot().nodes.values()]
        is_well = "failed" not in states and "open_circuit" not in states
        return PlainTextResponse("ok\n" if is_well else "failed\n", 200 if is_well else 503)

    async def preview(request: Request) -> Response:
        topic = request.path_params["topic"]
        if topic not in run.previews:
            return PlainTextResponse(f"there is no preview '{topic}'\n", 404)
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        pictures = newest_pictures(run, topic, is_closing)
        return StreamingResponse(pictures, media_type=kind, headers={"Cache-Control": "no-store"})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/snapshot", snapshot),
            Route("/metrics", metrics),
            Route("/healthz", health),
            Route("/{topic:path}.mjpeg", preview),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK), www_redirect=False)
        ],
    )


async def newest_pictures(
    run: Shown, topic: str, is_closing: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The parts of an MJPEG stream. Whoever reads slowly gets fewer pictures, never older ones:
    the next one is looked up only when the last one has been taken.
    """
    last: bytes | None = None
    while not is_closing():
        picture = run.previews.get(topic)
        if picture is None or picture is last:
            await asyncio.sleep(LOOK_S)
            continue
        last = picture
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        yield head.encode() + picture + b"\r\n"


PAGE = (resources.files("engine.web") / "page.html").read_text(encoding="utf-8")
