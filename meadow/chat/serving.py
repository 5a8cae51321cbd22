"""Serving a page to this machine and to nobody else.

It loads nothing from anywhere, and is told by its own headers not to.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meadow.chat.conversation import ChatError
from meadow.models import offline

__all__ = ["HOST", "check", "gradio", "serve"]

#: The only address that the page is served at.
HOST = "127.0.0.1"
#: The first port that is tried where none is given, and how many are.
PORT, _PORTS = 7860, 100

# The page's scripts write styles and evaluate templates of their own; nothing may come from, or go, elsewhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; media-src 'self' blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


class _Policy:
    """Forbids pages to load anything from elsewhere."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import MutableHeaders

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
                MutableHeaders(scope=message).update(more)
            await send(message)

        await self._app(scope, receive, sending)


def gradio() -> Any:
    """The library that draws the page.

    Raises:
        ChatError: It is not installed.
    """
    offline()
    try:
        import gradio as found
    except ImportError as error:
        raise ChatError(
            f"the page needs gradio, which is not installed ({error}): pip install -c constraints.txt '.[web]'; without --web "
            "it works in the terminal"
        ) from error
    return found


def check(port: int | None = None) -> None:
    """Makes sure that a page could be served, before a model is loaded for it.

    Raises:
        ChatError: Gradio is not installed, or the port is taken.
    """
    gradio()
    _free_port(port)


def serve(page: Any, port: int | None = None, say: Callable[[str], None] = print) -> int:
    """Serves a page to this machine until Ctrl-C; returns the exit code.

    Args:
        page: What `build` made.
        port: The port; None: the first free one from `PORT` on.
        say: Told its address.

    Raises:
        ChatError: The port, or all of those, are taken.
    """
    gr = gradio()
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # Without it a page on the web could have its name point to 127.0.0.1 and talk to the model.
    mine = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    try:
        _, address, _ = page.queue(api_open=False, max_size=16).launch(
            server_name=HOST,
            server_port=_free_port(port),
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            allowed_paths=[],
            # Fonts of the machine: those of the web would have to be fetched.
            theme=gr.themes.Default(
                font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
            ),
            css_paths=Path(__file__).with_name("page.css"),
            app_kwargs={"middleware": [mine, Middleware(_Policy)]},
        )
    except OSError as error:
        raise ChatError(f"the page cannot be served at {HOST}: {error}; choose another --port") from error
    say(f"{address}  (this machine only; Ctrl-C ends it)")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0
    finally:
        page.close(verbose=False)


def _free_port(port: int | None) -> int:
    tried = [port] if port is not None else list(range(PORT, PORT + _PORTS))
    for number in tried:
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, number))
            except OSError:
                continue
            return probe.getsockname()[1]
    what = f"port {port} is" if port is not None else f"ports {PORT} to {PORT + _PORTS - 1} are"
    raise ChatError(f"{what} taken, or not allowed: choose another one with --port")
