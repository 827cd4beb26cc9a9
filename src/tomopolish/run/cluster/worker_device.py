"""Which CUDA device a worker process computes on, where several share a machine.

Workers come and go, on machines that the head process does not know, so that they settle it among themselves:
each locks a place on a device in the machine's temporary folder, and loses it when it ends, however it ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tomopolish.imaging import devices

PLACES_ON_A_DEVICE = 64
_ALL = ("auto", "cuda")
"""What `--device` says where a worker may take any device that it sees."""


@dataclass(frozen=True, kw_only=True)
class DeviceClaim:
    """A place on a device, held until it is released or the process ends.

    Attributes
    ----------
    device
        What `--device` would say.
    """

    device: str
    lock: FileLock | None = None

    def release(self) -> None:
        """Leave the place to others."""
        if self.lock is not None:
            self.lock.release()


def claim_device(device: str, *, folder: Path | None = None) -> DeviceClaim:
    """Take the first place that is free on any device: workers spread over devices before they share one.

    Parameters
    ----------
    device
        `--device` of the run: with ``auto`` and ``cuda`` any device that this process sees
        (CUDA_VISIBLE_DEVICES), otherwise one of those named. The CPU needs no place.
    folder
        Where places are locked; None: in the machine's folder for temporary files.

    Raises
    ------
    InputError
        As `cuda_devices`.
    """
    found = devices.cuda_devices(device)
    if not found:
        return DeviceClaim(device=device)
    indices = range(devices.cuda_device_count()) if device in _ALL else tuple(dict.fromkeys(found))
    try:
        return _claim(indices, folder or _own_folder())
    except (OSError, NotImplementedError):  # no place to lock in: better a device that others use than none
        return DeviceClaim(device=f"cuda:{indices[os.getpid() % len(indices)]}")


def _claim(indices: Sequence[int], folder: Path) -> DeviceClaim:
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    # Slurm shows every job its own devices as the first ones: numbers mean something within a job only.
    job = "".join(filter(str.isalnum, os.environ.get("SLURM_JOB_ID", "")))
    for place in range(PLACES_ON_A_DEVICE):
        for index in indices:
            physical = visible[index] if index < len(visible) else str(index)
            name = f"cuda-{job}-{''.join(filter(str.isalnum, physical))}-{place}.lock"
            lock = FileLock(folder / name, blocking=False, thread_local=False)
            try:
                lock.acquire()
            except Timeout:
                continue
            return DeviceClaim(device=f"cuda:{index}", lock=lock)
    raise OSError("all places are taken")


def _own_folder() -> Path:
    """Return a folder for this user's locks, in the machine's folder for temporary files."""
    folder = Path(tempfile.gettempdir()) / f"tomopolish-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to another user")
    return folder
