"""A stand-in of the Hugging Face Hub that speaks its protocol over HTTP, and keeps what it gets."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

JSON = {"Content-Type": "application/json"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """``files``: {path: content} of the one repository; ``visibility``: as it was made."""

    url: str = ""
    repository: str = ""
    visibility: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    refuses: bool = False


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The Hub that huggingface_hub talks to during a test."""
    kept = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(kept))
    kept.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", kept.url)
    template = kept.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(
            self, content: bytes, status: int = 200, headers: Mapping[str, str] | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_POST(self) -> None:
            hub.tokens.add(self.headers.get("Authorization", ""))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if hub.refuses:
                self.answer(b'{"error": "Invalid credentials"}', 401)
                return
            path = urlsplit(self.path).path
            said: dict[str, object] = {}
            if path == "/api/repos/create":
                asked = json.loads(body)
                hub.repository = f"{asked['organization']}/{asked['name']}"
                hub.visibility = asked.get("visibility", asked.get("private"))
                said = {"url": f"{hub.url}/{hub.repository}"}
            elif path == f"/api/models/{hub.repository}/preupload/main":
                names = [file["path"] for file in json.loads(body)["files"]]
                regular = {"uploadMode": "regular", "shouldIgnore": False}
                said = {"files": [{"path": name, **regular} for name in names]}
            elif path == f"/api/models/{hub.repository}/commit/main":
                for line in body.splitlines():
                    part = json.loads(line)
                    if part["key"] == "file":
                        content = base64.b64decode(part["value"]["content"])
                        hub.files[part["value"]["path"]] = content
                url = f"{hub.url}/{hub.repository}/commit/{COMMIT}"
                said = {"commitUrl": url, "commitOid": COMMIT}
            elif path != "/api/validate-yaml":
                self.answer(b"{}", 404)
                return
            self.answer(json.dumps(said).encode(), headers=JSON)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith(f"/api/models/{hub.repository}/tree/"):
                said: object = [
                    {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
                    for name, content in hub.files.items()
                ]
            elif path.startswith(f"/api/models/{hub.repository}"):
                siblings = [{"rfilename": name} for name in hub.files]
                said = {"id": hub.repository, "sha": COMMIT, "siblings": siblings}
            elif (name := path.rpartition("/")[2]) in hub.files and hub.repository in path:
                self.answer(hub.files[name], headers={"ETag": f'"{_oid(hub.files[name])}"'})
                return
            else:
                self.answer(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
                return
            self.answer(json.dumps(said).encode(), headers=JSON)

        do_HEAD = do_GET

    return Handler


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
