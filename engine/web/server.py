"""Serves the live page from a thread of the process that runs a graph, on loopback only."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from types import TracebackType
from typing import Any

from engine.errors import EngineError

HOST = "127.0.0.1"
BACKLOG = 64
GRACE_S = 1  # how long an answer that is under way may hold up the end


class PageServer:
    """Bound once made; answers until `close`."""

    def __init__(self, run: object, port: int) -> None:
        try:
            import uvicorn

            from engine.web.app import Shown, make_app
        except ImportError as error:
            raise EngineError(
                f"the live page needs {error.name}: pip install 'frameloom[web]', or say --no-page"
            ) from error
        shown: Shown = run  # type: ignore[assignment]
        self._socket = _bind(port)
        self._closing = threading.Event()
        config = uvicorn.Config(
            make_app(shown, self._closing.is_set),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _closing_server()(config)
        self._thread = threading.Thread(target=self._serve, name="frameloom-page", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where a browser on this computer finds it."""
        return f"http://{HOST}:{self._socket.getsockname()[1]}/"

    def close(self) -> None:
        """Stop answering and end the thread."""
        self._closing.set()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def _closing_server() -> Any:
    """uvicorn's server, which also lets go of readers that did not take what they were sent."""
    import uvicorn

    class ClosingServer(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            for connection in list(self.server_state.connections):
                transport: Any = connection.transport
                transport.abort()
            await asyncio.sleep(0)  # the loop closes what was aborted

    return ClosingServer


def _bind(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} is in use: give another with --port, or 0 for any free one"
            raise EngineError(message) from error
        raise EngineError(f"port {port} cannot be had: {error.strerror}; try --port 0") from error
    return made
