"""Workers of one machine share its devices while workers come and go; the tests need no device."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tomopolish.errors import InputError
from tomopolish.imaging import devices
from tomopolish.run.cluster.worker_device import claim_device

SCRIPT = """
import sys
from pathlib import Path
from tomopolish.imaging import devices
from tomopolish.run.cluster.worker_device import claim_device
devices.cuda_obstacle = lambda: None
devices.cuda_device_count = lambda: 2
claim = claim_device("auto", folder=Path(sys.argv[1]))
print(claim.device, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def three_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cuda_obstacle", lambda: None)
    monkeypatch.setattr(devices, "cuda_device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.mark.usefixtures("three_devices")
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:2,cuda:0,cuda:1"])
def test_each_worker_has_a_device_of_its_own_while_there_are_enough(tmp_path: Path, device: str) -> None:
    claims = [claim_device(device, folder=tmp_path) for _ in range(3)]
    assert {claim.device for claim in claims} == {"cuda:0", "cuda:1", "cuda:2"}
    claims += [claim_device(device, folder=tmp_path) for _ in range(4)]
    assert sorted(Counter(claim.device for claim in claims).values()) == [2, 2, 3]
    for claim in claims:
        claim.release()


@pytest.mark.usefixtures("three_devices")
def test_a_place_that_was_left_is_taken_next(tmp_path: Path) -> None:
    claims = [claim_device("cuda", folder=tmp_path) for _ in range(3)]
    claims[1].release()
    again = claim_device("cuda", folder=tmp_path)
    assert again.device == claims[1].device
    for claim in (claims[0], claims[2], again):
        claim.release()


def test_a_killed_worker_leaves_its_device(tmp_path: Path) -> None:
    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    first, device = start()
    second, other = start()
    assert {device, other} == {"cuda:0", "cuda:1"}
    first.kill()
    first.communicate()
    third, replaced = start()
    assert replaced == device
    for process in (second, third):
        process.communicate()


@pytest.mark.usefixtures("three_devices")
def test_a_job_that_sees_other_devices_does_not_wait_for_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cuda_device_count", lambda: 1)
    claims = []
    for visible in ("4", "GPU-b1c2", "5"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        claims.append(claim_device("cuda", folder=tmp_path))
    assert [claim.device for claim in claims] == ["cuda:0"] * 3
    assert len(list(tmp_path.glob("*-0.lock"))) == 3
    for claim in claims:
        claim.release()


@pytest.mark.usefixtures("three_devices")
def test_jobs_that_each_see_devices_0_and_1_use_both_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cuda_device_count", lambda: 2)
    found: dict[str, list[str]] = {"17": [], "18": []}
    claims = []
    for job in ("17", "18", "17", "18"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        claims.append(claim_device("auto", folder=tmp_path))
        found[job].append(claims[-1].device)
    assert found == {"17": ["cuda:0", "cuda:1"], "18": ["cuda:0", "cuda:1"]}
    for claim in claims:
        claim.release()


@pytest.mark.usefixtures("three_devices")
def test_one_device_by_name_and_the_cpu_are_what_they_are(tmp_path: Path) -> None:
    for device in ("cuda:1", "cpu"):
        claims = [claim_device(device, folder=tmp_path) for _ in range(2)]
        assert [claim.device for claim in claims] == [device] * 2
        for claim in claims:
            claim.release()
    with pytest.raises(InputError, match="names cuda:3, but this machine has 3"):
        claim_device("cuda:3", folder=tmp_path)


@pytest.mark.usefixtures("three_devices")
def test_without_a_folder_to_lock_in_there_is_still_a_device(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert claim_device("cuda", folder=tmp_path / "file").device in {"cuda:0", "cuda:1", "cuda:2"}
