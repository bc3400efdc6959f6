"""What a process runs on: stored with each result, so that a figure says how it was made."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import torch


def environment() -> dict[str, str]:
    """Versions and machine of this process, in words."""
    return {
        "secateur": version("secateur"),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "Platform": f"{platform.system()} {platform.machine()}",
        "CPUs": str(os.cpu_count()),
        "Threads of torch": str(torch.get_num_threads()),
    }
