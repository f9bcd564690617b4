"""``softstate token key``: make a key to sign tokens with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.token.options import write_private
from softstate.errors import ConfigError
from softstate.server.auth.policy_files import check_installed


async def command(
    file: Annotated[Path, Parameter(name="FILE")],
    /,
    *,
    alg: str = "Ed25519",
    kid: Annotated[str | None, Parameter(metavar="NAME")] = None,
) -> int:
    """Make a key at random, write it to FILE, which its owner alone may read, and print its public half.

    The output is a set of keys (JWKS): write it to a file that `jwks_file` of the policy file names, or publish it.
    A secret (HS256) has no public half: FILE itself is what `secret_file` names, on every node.

    :param file: The file to make: a JSON Web Key.
    :param alg: Ed25519, ES256, RS256 or HS256 (or 384, 512; PS256).
    :param kid: The key's ID, by which tokens name it. By default its thumbprint.
    """
    check_installed()
    from softstate.auth.signature import BadKey, new_key  # noqa: PLC0415 - it imports joserfc

    try:
        made = new_key(alg, kid)
    except BadKey as error:
        raise ConfigError(f"--alg or --kid: {error}") from None
    write_private(file, json.dumps(dict(made.jwk), indent=1).encode() + b"\n")
    if made.public.secret:
        print(f"secret_file = {json.dumps(str(file), ensure_ascii=False)}")
    else:
        print(json.dumps({"keys": [made.public_jwk()]}))
    return exit_codes.OK
