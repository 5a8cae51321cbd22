"""Fixtures of the tests that fetch from a server on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meadow.fetch.download import Patience
from meadow.fetch.transport import CA_VARIABLES
from tests.fetch import server

_COUNT = itertools.count()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy or certificate of the machine comes between."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site() -> Iterator[server.Site]:
    """A publisher's server."""
    with server.serving() as running:
        yield running


@pytest.fixture
def quick() -> Patience:
    """Waits that suit a test."""
    return Patience(connect=5, read=5, first_wait=0.01)


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Installs a source that declares files; returns its name, which no other test has."""
    packages = tmp_path / "packages"
    packages.mkdir()  # Python remembers folders that are not there
    monkeypatch.syspath_prepend(packages)

    def install(*rows: tuple[object, ...], reserved: bool = False) -> str:
        name = f"ward{next(_COUNT)}"
        server.source(packages, name, rows, reserved)
        return name

    return install
