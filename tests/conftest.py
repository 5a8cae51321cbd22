"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

#: Real raw data, laid out as a raw store; it lies beside the checkout, not in it.
REAL = Path(os.environ.get("MEADOW_TEST_REAL", Path(__file__).resolve().parents[2] / "shared" / "real"))


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real raw data; tests that need it are skipped where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"no real raw data in {REAL} (set MEADOW_TEST_REAL to point elsewhere)")
    return REAL


@pytest.fixture(scope="session")
def real_store(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a raw store of the named real files alone: what else lies beside them changes no test."""

    def store(*paths: str) -> Path:
        root = tmp_path_factory.mktemp("real")
        for path in paths:
            if not (real / path).is_file():
                pytest.skip(f"no real file {path} in {real}")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(real / path)
        return root

    return store


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models that tests make are kept, for all of them."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def own_folders(
    tmp_path_factory: pytest.TempPathFactory, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test reads or writes the user's own raw store, output folder, models or `datasets` cache."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MEADOW_MODELS", str(models))
    monkeypatch.setenv("MEADOW_RAW", str(home / "raw"))
    monkeypatch.setenv("MEADOW_OUT", str(home / "out"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
