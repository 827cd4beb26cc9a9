"""Choice of a CUDA device by worker processes that share a machine.

Workers come and go on machines that the head process does not know, so that they choose without it:
each locks a place on a device in the machine's temporary folder, and loses it when it ends in any way.
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
"""Values of `--device` with which a worker may take any device that it sees."""


@dataclass(frozen=True, kw_only=True)
class DeviceClaim:
    """A reserved place on a device, until it is released or the process ends.

    Attributes
    ----------
    device
        The device, as for `--device`.
    """

    device: str
    lock: FileLock | None = None

    def release(self) -> None:
        """Release the place."""
        if self.lock is not None:
            self.lock.release()


def claim_device(device: str, *, folder: Path | None = None) -> DeviceClaim:
    """Reserve the first free place on any device: workers use different devices before they share any.

    Parameters
    ----------
    device
        `--device` of the run: with ``auto`` and ``cuda`` any device that this process sees
        (CUDA_VISIBLE_DEVICES), otherwise one of those named. The CPU needs no place.
    folder
        Folder of the locks; None: in the machine's folder for temporary files.

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
    except (
        OSError,
        NotImplementedError,
    ):  # locks are impossible: a device that others use is better than none
        return DeviceClaim(device=f"cuda:{indices[os.getpid() % len(indices)]}")


def _claim(indices: Sequence[int], folder: Path) -> DeviceClaim:
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    # Slurm numbers each job's own devices from 0: numbers are valid within a job only.
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
