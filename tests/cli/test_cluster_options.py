"""Options and profiles that spread tomograms over processes and machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tomopolish.cli.cluster import PROFILE_KEYS, cluster_from
from tomopolish.errors import InputError
from tomopolish.settings.cluster import ClusterSettings, SlurmSettings, TlsFiles

PROFILE = """slurm: true
workers: 20
slurm_partition: gpu
slurm_walltime: "12:00:00"
slurm_gpus: 1
slurm_directive: ["--account=lab"]
"""


def values(**given: Any) -> dict[str, Any]:
    """The values from the parser."""
    lists = {"slurm_directive": (), "slurm_prologue": ()}
    return {
        **dict.fromkeys(PROFILE_KEYS),
        "slurm": False,
        "dashboard": False,
        **lists,
        "cluster_profile": None,
        **given,
    }


def test_without_options_there_is_no_cluster() -> None:
    assert cluster_from(values()) is None


def test_workers_and_schedulers() -> None:
    assert cluster_from(values(workers=3)) == ClusterSettings(workers=3)
    assert cluster_from(values(scheduler="tcp://x:1")) == ClusterSettings(scheduler="tcp://x:1")


def test_options_win_over_the_profile_and_add_to_its_lists(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(PROFILE)
    slurm = SlurmSettings(partition="gpu", walltime="12:00:00", gpus=1, directives=("--account=lab",))
    assert cluster_from(values(cluster_profile=path)) == ClusterSettings(workers=20, slurm=slurm)
    found = cluster_from(values(cluster_profile=path, workers=2, slurm_directive=("--exclusive",)))
    assert found is not None
    assert found.slurm is not None
    assert found.workers == 2
    assert found.slurm.directives == ("--account=lab", "--exclusive")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("workers: many", "workers is 'many', but must be a number"),
        ("worker: 3", "'worker' is unknown"),
        ("slurm_directive: [1]", "must be a list of texts"),
        ("- 3", "contains no options"),
        ("{", "not a YAML file"),
        ("!!python/object/apply:os.mkdir [exploded]", "not a YAML file"),
    ],
)
def test_bad_profiles_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=part):
        cluster_from(values(cluster_profile=path))
    assert not (tmp_path / "exploded").exists()


def test_certificates_and_waits(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("scheduler: tls://x:1\ntls_ca_file: ca.pem\ntls_cert: me.pem\nconnect_timeout: 90\n")
    assert cluster_from(values(cluster_profile=path, tls_key="k.pem", dashboard=True)) == ClusterSettings(
        scheduler="tls://x:1",
        tls=TlsFiles(ca_file=Path("ca.pem"), cert=Path("me.pem"), key=Path("k.pem")),
        connect_timeout_s=90,
        dashboard=True,
    )
    assert ClusterSettings(workers=2).patience_s == 30
    assert ClusterSettings(workers=2, slurm=SlurmSettings()).patience_s == 86400
    for given, sentence in (
        ({"scheduler": "tls://x:1", "tls_key": "k.pem"}, "add --tls_ca_file"),
        ({"scheduler": "tcp://x:1", "tls_ca_file": "ca", "tls_cert": "c"}, "begins with tls://"),
        ({"dashboard": True}, "--dashboard does nothing without --workers"),
    ):
        with pytest.raises(InputError, match=sentence):
            cluster_from(values(**given))


def test_slurm_options_need_slurm() -> None:
    with pytest.raises(InputError, match="without --slurm"):
        cluster_from(values(workers=2, slurm_partition="gpu"))
