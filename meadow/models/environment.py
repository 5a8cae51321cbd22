"""What surrounds a model: no network, and the hardware."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

#: Set before any of the libraries is imported: they read these once. A lookup on a hub would otherwise be
#: tried again for over 20 seconds where there is no network.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "disabled",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "BITSANDBYTES_NOWELCOME": "1",
    # Tokenizers warn about every fork of a process that used their threads.
    "TOKENIZERS_PARALLELISM": "false",
}


def offline() -> None:
    """Keeps Hugging Face's libraries from the network and from reporting; call it before their import."""
    os.environ.update(_OFFLINE)
    # It tells of kernels on a hub that it did not fetch, and of every cast to float16 on a processor.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            vars(sys.modules[name])["HF_HUB_OFFLINE"] = True


def describe_hardware() -> dict[str, Any]:
    """The machine: processor, cores that this process may use, memory, GPUs. Names no host and no user."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": None,
        "gpus": [],
        "cuda": None,
    }
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        import torch
    except ImportError:
        return found
    if torch.cuda.is_available():
        found["cuda"] = torch.version.cuda or torch.version.hip
        for number in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(number)
            found["gpus"].append(
                {"name": gpu.name, "memory_bytes": gpu.total_memory, "capability": f"{gpu.major}.{gpu.minor}"}
            )
    elif torch.backends.mps.is_available():
        found["gpus"].append({"name": "Apple GPU (Metal)", "memory_bytes": None, "capability": None})
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^(?:model name|hardware)\s*:(.*)", told, re.IGNORECASE | re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()
