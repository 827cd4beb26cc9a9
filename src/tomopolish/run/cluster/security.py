"""Certificates, which processes need to connect to a run's scheduler and workers.

Dask executes what it is sent, so that an open port of a scheduler or worker lets any user of the machine
run code as the user who started it. With TLS, both ends of each connection must have a certificate.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tomopolish.errors import InputError
from tomopolish.kernel_cache import fault_of
from tomopolish.settings.cluster import ClusterSettings, TlsFiles

if TYPE_CHECKING:
    from distributed.security import Security

FOLDER_PREFIX = "workers-"
"""Prefix of the folder that contains a run's private key while its Slurm jobs last."""


def own_security() -> Security:
    """Return a certificate and key of this run, in memory, for worker processes of this machine."""
    from distributed.security import Security

    return Security.temporary()


@contextlib.contextmanager
def shared_security(folder: Path) -> Iterator[Security]:
    """Write a certificate and key of this run where its Slurm jobs can read them, within the block.

    They are in a folder within `folder` that only the user can open. Job scripts and command lines contain
    their paths, not their contents.

    Raises
    ------
    InputError
        When files cannot be private there.
    """
    from distributed.security import Security

    security = Security.temporary()
    try:
        for leftover in folder.glob(
            f"{FOLDER_PREFIX}*"
        ):  # left by a run that was killed: this run owns the folder
            shutil.rmtree(leftover, ignore_errors=True)
        private = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=folder.absolute()))
    except OSError as error:
        raise InputError(f"{folder}: nothing can be written there ({error.strerror})") from error
    try:
        if stat.S_IMODE(private.stat().st_mode) & 0o077:
            raise InputError(
                f"{folder}: its file system lets other users read private files, and the key "
                "of the Slurm jobs must be there; choose a folder on another file system"
            )
        cert, key = private / "cert.pem", private / "key.pem"
        for path, text in ((cert, security.tls_worker_cert), (key, security.tls_worker_key)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(text)
        roles = ("client", "scheduler", "worker")
        files = {f"tls_{role}_cert": str(cert) for role in roles}
        files |= {f"tls_{role}_key": str(key) for role in roles}
        yield Security(require_encryption=True, tls_ca_file=str(cert), **files)
    finally:
        shutil.rmtree(private, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(state_folder: Path) -> Iterator[Path]:
    """Create a folder for scratch files of Dask, for the block's time, that only the user can write to.

    Dask's processes import modules from their scratch folder first. Its usual name in the machine's folder
    for temporary files is known, so that another user may have made it, with modules.

    Parameters
    ----------
    state_folder
        The program's folder within the output folder, for machines whose temporary files are not safe.

    Raises
    ------
    InputError
        When other users can replace folders everywhere.
    """
    fault = ""
    for place in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"), state_folder.absolute())):
        try:
            private = Path(tempfile.mkdtemp(prefix="tomopolish-", dir=place))
        except OSError as error:
            fault = f"{place}: {error.strerror}"
            continue
        try:
            fault = fault_of(private)
            if not fault:
                yield private
                return
        finally:
            shutil.rmtree(private, ignore_errors=True)
    raise InputError(
        f"the workers need a folder that no other user can replace ({fault}): set TMPDIR to a folder of yours"
    )


def security_with(settings: ClusterSettings, warn: Callable[[str], None]) -> Security:
    """Return the certificates for a running scheduler, from the options or Dask's configuration.

    Raises
    ------
    InputError
        When the scheduler requires certificates and there are none, or they cannot be used.
    """
    from distributed.security import Security

    address = str(settings.scheduler)
    if settings.tls is not None:
        return _from_files(settings.tls, warn)
    security = Security()
    if address.startswith("tls://"):
        if not (security.tls_ca_file and security.tls_client_cert):
            raise InputError(
                f"--scheduler {address} requires certificates: give --tls_ca_file, --tls_cert and --tls_key"
            )
        return security
    warn(
        f"--scheduler {address}: connections are neither encrypted nor authenticated, so that anyone who "
        "can reach the ports of its scheduler and workers can run code as you; use an address that begins "
        "with tls://"
    )
    return security


def _from_files(tls: TlsFiles, warn: Callable[[str], None]) -> Security:
    from distributed.security import Security

    options = {"--tls_ca_file": tls.ca_file, "--tls_cert": tls.cert, "--tls_key": tls.key}
    paths = {option: path for option, path in options.items() if path is not None}
    for option, path in paths.items():
        if not path.is_file():
            raise InputError(f"{option} {path}: file not found")
    private = "--tls_key" if tls.key is not None else "--tls_cert"
    if paths[private].stat().st_mode & 0o077:
        warn(f"{private} {paths[private]} contains a private key that other users can read: use chmod 600")
    security = Security(
        require_encryption=True,
        tls_ca_file=str(tls.ca_file),
        tls_client_cert=str(tls.cert),
        tls_client_key=None if tls.key is None else str(tls.key),
    )
    try:
        security.get_connection_args("client")
    except (OSError, ValueError) as error:  # ssl's errors are OSErrors
        raise InputError(
            f"{', '.join(f'{option} {path}' for option, path in paths.items())}: these are not PEM files of "
            f"an authority, a certificate that it signed, and the certificate's key ({error})"
        ) from error
    return security
