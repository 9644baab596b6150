"""Metrics over HTTP, as Prometheus scrapes them, until the process is told to stop.

The library's own server would do, but it waits for ever for a client that says nothing, lets five
connections queue, and writes the same text again for every scrape of one reading.
"""

import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app as _make_wsgi_app  # pyright: ignore[reportUnknownVariableType] - says no types
from prometheus_client.exposition import ThreadingWSGIServer

from hvo.errors import HvoError
from hvo.host.metrics import Reader, Reading
from hvo.report.metrics import HostCollector, registry_of

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

_STOPS = (signal.SIGTERM, signal.SIGINT)
_FORMATS = 16
"""Answers kept for one reading at most: clients ask for a few formats, and may not fill memory by
asking for many.
"""


class Address(NamedTuple):
    """Where the exporter listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"


class _Handler(WSGIRequestHandler):
    """Says nothing about requests, and gives a silent client up."""

    timeout = 10  # seconds

    def log_message(self, format: str, *args: object) -> None:
        """Nobody wants a line for every scrape."""


class _Server(ThreadingWSGIServer):
    request_queue_size = 128


class _Server6(_Server):
    address_family = socket.AF_INET6


class SharedAnswers:
    """A WSGI application that gives equal requests the same answer as long as the reading is the
    same.
    """

    def __init__(self, reader: Reader, complain: Callable[[str], None]) -> None:
        self._reader = reader
        self._application = cast(
            "WSGIApplication", _make_wsgi_app(registry_of(HostCollector(reader.read, complain)))
        )
        self._kept: tuple[Reading | None, dict[tuple[str, ...], tuple[Any, ...]]] = None, {}

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        reading = self._reader.read()
        kept_of, kept = self._kept
        if kept_of is not reading:
            kept = {}
            self._kept = reading, kept
        names = (
            "REQUEST_METHOD",
            "PATH_INFO",
            "QUERY_STRING",
            "HTTP_ACCEPT",
            "HTTP_ACCEPT_ENCODING",
        )
        request = tuple(environ.get(name, "") for name in names)
        answer = kept.get(request) or self._answer(environ)
        if len(kept) < _FORMATS:
            kept[request] = answer
        status, headers, body = answer
        start_response(status, list(headers))
        return body

    def _answer(self, environ: dict[str, Any]) -> tuple[Any, ...]:
        begun: list[Any] = []

        def start(*words: Any) -> Any:
            begun.extend(words)

        body = self._application(environ, start)
        return (*begun, list(body))


def serve(
    reader: Reader,
    address: Address,
    *,
    ready: Callable[[Address], None],
    complain: Callable[[str], None],
) -> None:
    """Serve what `reader` reads until SIGTERM or SIGINT; `complain` is told of readings that fail.

    `ready` gets the address, with the port that the kernel chose where 0 was asked for. Call it
    from the main thread. Raises `HvoError` when the address cannot be listened on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        with _serving(SharedAnswers(reader, complain), address) as bound:
            ready(bound)
            signal.sigwait(_STOPS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _serving(application: SharedAnswers, address: Address) -> Generator[Address]:
    kind = _Server6 if ":" in address.host else _Server
    try:
        server = make_server(address.host, address.port, application, kind, _Handler)
    except OSError as error:
        what = f"cannot listen on {address.host} port {address.port}: {error.strerror}"
        raise HvoError(f"{what}; expected an address of this host and a free port") from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Address(address.host, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
