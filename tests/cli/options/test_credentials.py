"""`--token-file`: what a command says while the file holds no token that a node takes. `--tls-ca`: for which URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from softstate.cli.options.credentials import CA_VARIABLE, Presented
from softstate.cli.options.nodes import Reached, connected
from softstate.client.tokens import TokenRequest
from softstate.errors import ConfigError


async def test_a_file_whose_token_is_refused_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    provide = Presented(token_file=file).for_client()
    assert callable(provide)
    for attempt in range(2):
        assert await provide(TokenRequest("audience" if attempt else None, attempt)) == "one"
    assert capsys.readouterr().err == "", "a command that does not wait says it itself"
    for attempt in range(2, 5):
        assert await provide(TokenRequest("audience", attempt)) == "one"
    said = capsys.readouterr().err
    assert (
        said == f"softstate: nodes refuse the token in {file} (audience): it is read again until there is another one\n"
    )
    file.write_text("two")
    assert await provide(TokenRequest("audience", 5)) == "two"
    assert capsys.readouterr().err == ""


async def test_a_file_that_is_gone_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    provide = Presented(token_file=file).for_client()
    assert callable(provide)
    file.unlink()
    for attempt in range(3):
        with pytest.raises(ConfigError):
            await provide(TokenRequest(None, attempt))
    assert (
        capsys.readouterr().err
        == f"softstate: cannot read --token-file {file}: No such file or directory; it is read again\n"
    )


@pytest.mark.parametrize("url", ["ws://127.0.0.1:8700", "unix:/run/softstate.sock"])
async def test_urls_without_tls_ignore_an_authority_of_the_environment_and_refuse_one_that_is_given(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Path("ca.pem")
    monkeypatch.setenv(CA_VARIABLE, str(authority))
    connected([url], Presented(tls_ca=authority))
    for presented, flag in (
        (Presented(tls_ca=Path("other.pem")), "--tls-ca"),
        (Presented(tls_ca=authority, tls_cert=Path("cert.pem")), "--tls-cert"),
    ):
        for reached in (None, Reached()):
            with pytest.raises(ConfigError, match=f"{flag} is of no use for URLs without TLS"):
                connected([url], presented, reached=reached)
    with pytest.raises(ConfigError, match=r"cannot read --tls-ca ca\.pem"):
        connected([url, "wss://node.example"], Presented(tls_ca=authority))
