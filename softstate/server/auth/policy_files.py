"""The policy file and the files of keys that it names, read from disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from softstate.auth.callout import SECRET_BYTES_MIN, Callout
from softstate.auth.keyring import Keyring
from softstate.auth.policy import Policy
from softstate.auth.policy_file import KeySource, read_policy
from softstate.errors import ConfigError

if TYPE_CHECKING:
    from softstate.auth.signature import PublicKey

FILE_BYTES_MAX = 1024 * 1024
"""Longest policy file, or file of keys: anything above it is another file, or a device that never ends."""


Stamp: TypeAlias = tuple[int, int, int, int]
"""The state of a file, as far as its directory tells: device, number, size and time of modification."""


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy with the keyring of each issuer by its name; those of a URL are empty until their keys are fetched.

    `files` is every file that was read, as it was then, and `problems` tells which keys of files were not taken.
    """

    policy: Policy
    keyrings: Mapping[str, Keyring]
    sources: Mapping[str, KeySource]
    files: Mapping[Path, Stamp | None]
    problems: tuple[str, ...] = ()
    secret: bytes = field(default=b"", repr=False)
    """The secret that signs questions to a callout."""


def load_policy(path: Path, beside: Collection[str] = ()) -> LoadedPolicy:
    """Read a policy file and the keys that it names. Raises `ConfigError`. `beside`: see `read_policy`."""
    files: dict[Path, Stamp | None] = {}
    data = _read(path, "the policy file", files)
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a TOML file: it is not UTF-8") from None
    file = read_policy(content, str(path), beside)
    if file.sources:
        check_installed()
    problems: list[str] = []
    keyrings = {
        issuer: Keyring(fetched=True, times=source.times)
        if source.fetched
        else Keyring(_keys(path.parent / source.at, source, files, problems))
        for issuer, source in file.sources.items()
    }
    secret = b"" if file.policy.callout is None else _secret(path.parent, file.policy.callout, files)
    return LoadedPolicy(file.policy, keyrings, file.sources, files, tuple(problems), secret)


def stamps_of(files: Iterable[Path]) -> dict[Path, Stamp | None]:
    """Return how files are now; None for one that is not there."""
    found: dict[Path, Stamp | None] = {}
    for path in files:
        try:
            found[path] = _stamp(path.stat())
        except (OSError, ValueError):
            found[path] = None
    return found


def check_installed() -> None:
    """Raise `ConfigError` unless the library that checks signatures is installed."""
    try:
        import joserfc  # noqa: F401, PLC0415 - 87 ms, and 11 MB, that a node without keys does without
    except ImportError:
        raise ConfigError("keys need the extra `auth`: pip install '.[auth]', in a clone of softstate") from None


def _keys(path: Path, source: KeySource, files: dict[Path, Stamp | None], problems: list[str]) -> Iterable[PublicKey]:
    from softstate.auth import signature  # noqa: PLC0415 - it imports joserfc

    data = _read(path, source.where, files)
    found: list[str] = []
    try:
        if source.kind == "secret_file":
            keys = [signature.import_secret(data, source.algorithms)]
        elif source.kind == "public_key_file":
            keys = [signature.import_pem(data, source.algorithms)]
        else:
            keys, found = signature.import_key_set(data, source.algorithms)
    except signature.BadKey as error:
        raise ConfigError(f"{source.where}: {path} cannot be used: {error}") from None
    if not keys:
        raise ConfigError(f"{source.where}: {path} has no key that can be used: {'; '.join(found) or 'it is empty'}")
    problems += [f"{path}: {problem}" for problem in found]
    if any(key.secret for key in keys):
        _check_private(path, source.where)
    return keys


def _secret(folder: Path, callout: Callout, files: dict[Path, Stamp | None]) -> bytes:
    path = folder / callout.secret_file
    secret = _read(path, callout.where, files).strip()
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigError(f"{callout.where}: the secret in {path} must have {SECRET_BYTES_MIN} bytes or more")
    _check_private(path, callout.where)
    return secret


def _check_private(path: Path, where: str) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(
            f"{where}: other users may read or write the secret in {path} (mode {mode:04o}): chmod 600 {path}"
        )


def _read(path: Path, what: str, files: dict[Path, Stamp | None]) -> bytes:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{what}: {path} is a device, a pipe or a socket: name a file")
            files[path] = _stamp(found)
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: cannot read {path}: {getattr(error, 'strerror', error)}") from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{what}: {path} is longer than {FILE_BYTES_MAX} bytes: name another file")
    return data


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
