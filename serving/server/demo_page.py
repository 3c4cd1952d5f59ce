"""The page at `/` of the REST port: a picture goes in, the served model's answer is drawn over it.

The page is a client like any other: metadata, predict and classify of the REST API, no more. What that API lacks is
a list of the models, so there is one endpoint more. All of the page lies under `/demo/`, which neither the API (`/v1/`)
nor the metrics' usual path can meet:

| path | what |
|---|---|
| `/` | the page |
| `/demo/page.css`, `/demo/page.js`, `/demo/icon.svg` | its parts |
| `/demo/models` | `{"models": [{"name": "m", "versions": ["2", "1"], "labels": {"stable": "1"}}]}` |

`/demo/models` lists the versions that are available, newest first, and the labels that point at one of them. Versions
are strings, as int64 is in the API's JSON.
"""

import dataclasses
import json
from pathlib import Path

from aiohttp import web

from serving.server import engine, lifecycle

_FOLDER = Path(__file__).with_name("page")
_PARTS = {
    "/": ("index.html", "text/html"),
    "/demo/page.css": ("page.css", "text/css"),
    "/demo/page.js": ("page.js", "text/javascript"),
    "/demo/icon.svg": ("icon.svg", "image/svg+xml"),
}
_MODELS = "/demo/models"
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclasses.dataclass(frozen=True)
class _Part:
    body: bytes
    content_type: str


class DemoPage:
    """Answers the page's own paths.

    Args:
        models: The engine, whose models are listed.

    Raises:
        OSError: Where a file of the page cannot be read.
    """

    def __init__(self, models: engine.Engine) -> None:
        self._models = models
        self._parts = {path: _Part((_FOLDER / name).read_bytes(), kind) for path, (name, kind) in _PARTS.items()}

    def answer(self, method: str, path: str) -> web.Response | None:
        """Answers a request for the page, one of its parts, or the list of models.

        Args:
            method: Only GET and HEAD are answered.
            path: As sent, still percent-encoded.

        Returns:
            The response; None for whatever is not the page's.
        """
        if method not in ("GET", "HEAD"):
            return None
        if path == _MODELS:
            listing = json.dumps({"models": self._list()}).encode()
            return web.Response(body=listing, content_type="application/json", headers=_HEADERS)
        part = self._parts.get(path)
        if part is None:
            return None
        return web.Response(body=part.body, content_type=part.content_type, charset="utf-8", headers=_HEADERS)

    def _list(self) -> list[dict[str, object]]:
        return [self._describe(name) for name in self._models.names()]

    def _describe(self, name: str) -> dict[str, object]:
        versions = [number for number, state, _ in self._models.states(name) if state is lifecycle.State.AVAILABLE]
        labels = {label: str(number) for label, number in self._models.labels(name).items() if number in versions}
        return {"name": name, "versions": [str(number) for number in versions], "labels": labels}
