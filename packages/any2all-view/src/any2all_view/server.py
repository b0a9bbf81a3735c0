"""The web page of a patient, served to this machine only."""

from __future__ import annotations

import gzip
import hmac
import json
import os
import secrets
import sys
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

from any2all_operators import UserError

from any2all_view.layers import Shown, nifti

LOOPBACK = "127.0.0.1"
PAGE = {
    "": ("view.html", "text/html; charset=utf-8"),
    "view.js": ("view.js", "text/javascript; charset=utf-8"),
    "view.css": ("view.css", "text/css; charset=utf-8"),
    "niivue.js": ("niivue.umd.js.gz", "text/javascript; charset=utf-8"),
    "licenses.txt": ("NIIVUE-LICENSES.txt", "text/plain; charset=utf-8"),
}
"""{path of a request: (file of this package, content type)}"""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' "
    "blob: data:; img-src 'self' blob: data:; worker-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The page loads resources from this server only."""


class Server(ThreadingHTTPServer):
    """Serves a patient's page at http://127.0.0.1:PORT/TOKEN/, and nothing without the token.

    Requests name modalities by number, so that no name is in an address. Raises UserError if the
    port is in use.
    """

    daemon_threads = True

    def __init__(self, shown: Shown, port: int = 0) -> None:
        self.shown, self.token = shown, secrets.token_urlsafe(24)
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            raise UserError(f"--port {port}: {error.strerror}; choose another, or 0") from None

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"


class Handler(BaseHTTPRequestHandler):
    """Answers GET of the page, of patient.json and of volumes/MODALITY/LAYER/FRAME.nii."""

    server: Server

    def do_GET(self) -> None:
        _, token, *rest = self.path.partition("?")[0].split("/")
        hosts = {f"{name}:{self.server.server_port}" for name in (LOOPBACK, "localhost")}
        known = hmac.compare_digest(token.encode(), self.server.token.encode())
        if not known or self.headers.get("Host") not in hosts:
            self.send_error(HTTPStatus.FORBIDDEN, "Open the address that any2all view printed")
            return
        asked = "/".join(rest)
        if asked in PAGE and rest:
            name, kind = PAGE[asked]
            body = files("any2all_view").joinpath(f"page/{name}").read_bytes()
            self._send(gzip.decompress(body) if name.endswith(".gz") else body, kind)
        elif asked == "patient.json":
            self._send(json.dumps(self.server.shown.described()).encode(), "application/json")
        elif rest[:1] == ["volumes"]:
            self._send_volume(rest[1:])
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send_volume(self, asked: list[str]) -> None:
        try:
            modality, layer, frame = (int(text.removesuffix(".nii")) for text in asked)
            volume = nifti(self.server.shown.modalities, modality, layer, frame)
        except (IndexError, ValueError):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._send(volume, "application/octet-stream")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the address has the token in it."""


def open_browser(address: str) -> None:
    """Open the page if there is a screen; a text browser would block the terminal."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
