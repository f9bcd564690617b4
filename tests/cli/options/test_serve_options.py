"""`softstate serve`: sources of options, refusals and their messages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from softstate.cli import run
from softstate.cli.commands import serve
from softstate.cli.commands.serve import command
from softstate.cli.options.layers import FLAGS_ONLY, POLICY_TABLES, PREFIX, variable
from softstate.cli.options.serve_options import BASIC, WORKERS_MAX, Advanced, ServeOptions, config_of
from softstate.server.config import ServerConfig
from softstate.server.config.server_config import FILE_KEYS, SETTINGS


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def configured(*words: str) -> ServerConfig:
    """The configuration that `softstate serve` with these words would run with."""
    _, bound, _ = command.parse_args(list(words), print_error=False, exit_on_error=False)
    given = bound.arguments
    return config_of(given.get("options", ServeOptions()), given.get("advanced", Advanced()))


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "node.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `softstate serve --check …`, expect exit code 2 and one line, and return it."""

    def refused(*words: str) -> str:
        assert run(["serve", "--check", *words]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.count("\n") == 1
        return output.err

    return refused


def test_the_defaults_are_those_of_the_server() -> None:
    assert configured() == ServerConfig()


def test_every_field_of_the_server_is_a_flag() -> None:
    flags = {argument.name for argument in command.assemble_argument_collection()}
    assert {"--" + setting.option.replace("_", "-") for setting in SETTINGS} <= flags
    assert {setting.option for setting in SETTINGS} >= BASIC


def test_every_line_of_the_help_describes_its_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not by COLUMNS: the command keeps the console that its help was printed on first in this process.
    monkeypatch.setattr(serve.command, "_console", Console(width=300))
    assert run(["serve", "--help"]) == 0
    described = dict(re.findall(r"^│ --([\w-]+).*?  +(\S.*?) +│$", capsys.readouterr().out, re.MULTILINE))
    assert described.keys() >= {setting.option.replace("_", "-") for setting in SETTINGS}
    assert {name for name, text in described.items() if not re.match(r"\w.*\. *($|\[)", text)} == set()


def test_a_bound_that_is_not_the_usual_one_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "a limit is above 0 unless it says otherwise" in words
    assert "a deletion is remembered (a tombstone). At least 0." in words


def test_flags_win_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], str]
) -> None:
    path = toml('ttl = "10s"\npending_max = 11\nhead_s_max = 1.5\norigin = ["http://a", "http://b"]\n')
    monkeypatch.setenv("SOFTSTATE_TTL", "20s")
    monkeypatch.setenv("SOFTSTATE_PENDING_MAX", "22")
    config = configured("--config", path, "--ttl", "30s")
    assert config.ttl_ms == 30_000
    assert config.pending_max == 22
    assert config.head_s_max == 1.5
    assert config.origins == ("http://a", "http://b")


def test_the_environment_may_name_the_file(monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], str]) -> None:
    monkeypatch.setenv("SOFTSTATE_CONFIG", toml('store = "memory:"'))
    assert configured().store == "memory:"


@pytest.mark.parametrize("option", ["require_durable", "require_store", "no_backup"])
@pytest.mark.parametrize("way", ["flag", "environment", "file"])
def test_a_switch_can_be_set(
    way: str, option: str, monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], str]
) -> None:
    assert not getattr(configured(), option)
    if way == "environment":
        monkeypatch.setenv(f"SOFTSTATE_{option.upper()}", "true")
    words = {"flag": [f"--{option.replace('_', '-')}"], "file": ["--config", toml(f"{option} = true")]}
    assert getattr(configured(*words.get(way, [])), option)


def test_a_list_replaces_the_list_of_a_lower_layer(toml: Callable[[str], str]) -> None:
    path = toml('origin = ["http://a"]')
    assert configured("--config", path, "--origin", "http://b", "--origin", "http://c").origins == (
        "http://b",
        "http://c",
    )


@pytest.mark.parametrize(
    ("text", "ttl_ms"), [("1500ms", 1_500), ("60s", 60_000), ("1.5s", 1_500), ("10m", 600_000), ("1h", 3_600_000)]
)
def test_durations(text: str, ttl_ms: int) -> None:
    assert configured("--ttl", text).ttl_ms == ttl_ms


def test_memory_is_written_with_its_unit(toml: Callable[[str], str]) -> None:
    assert configured().memory_max == 0
    assert configured("--memory-max", "512MiB").memory_max == 512 * 2**20
    assert configured("--config", toml('memory_max = "2GB"\n')).memory_max == 2 * 10**9


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("127.0.0.1:8700", "127.0.0.1", 8700), ("localhost:0", "localhost", 0), ("[::1]:99", "::1", 99)],
)
def test_addresses(listen: str, host: str, port: int) -> None:
    config = configured("--listen", listen)
    assert (config.host, config.port) == (host, port)


def test_rules_let_a_node_be_reached_from_other_machines() -> None:
    config = configured("--listen", "0.0.0.0:8700", "--auth", "auth.toml", "--plaintext-ok", "TLS ends in front")
    assert config.auth == "auth.toml"
    assert configured("--auth", "auth.toml").auth == "auth.toml"
    assert configured().auth == ""


def test_valid_configuration_is_told_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--check", "--role", "poll", "--listen", "127.0.0.1:0"]) == 0
    assert "valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--ttl", "60"], "--ttl must be a duration such as 500ms, 60s, 10m or 1h, not '60'; for seconds write 60s."),
        (["--ttl", "10ms"], "ttl must be 1000 ms"),
        (["--role", "leader"], '"all", "push", "poll"'),
        (["--pending-max", "0"], "pending_max must be above 0"),
        (["--pending-max", "many"], "--pending-max"),
        (["--head-s-max", "nan"], "head_s_max must be a finite number"),
        (["--lissten", "x"], "--lissten"),
        (["--listen", "8700"], "HOST:PORT"),
        (["--listen", "::1:8700"], "HOST:PORT"),
        (["--listen", "127.0.0.1:70000"], "0 to 65535"),
        (["--listen", "0.0.0.0:8700"], "every client that reaches the port may read and publish everything"),
        (["--listen", "[::]:8700"], "--allow-anonymous"),
        (["--listen", "0.0.0.0:8700", "--auth", "x"], "--plaintext-ok 'TLS ends in front'"),
        (["--auth", "x", "--allow-anonymous"], "leave out --allow-anonymous, or --auth"),
        (["--listen", "example.org:8700"], "--allow-anonymous"),
        (["--config", "/nonexistent/node.toml"], "No such file"),
        (["--workers", "0"], f"workers must be 1 to {WORKERS_MAX}, not 0"),
        (["--workers", str(WORKERS_MAX + 1)], f"workers must be 1 to {WORKERS_MAX}, not {WORKERS_MAX + 1}"),
        (["--workers", "many"], "--workers"),
        (["--workers", "2", "--store", "memory:"], "--store sqlite:PATH, or --workers 1"),
    ],
)
def test_wrong_flags_are_refused_by_name(words: list[str], expected: str, refusal: Callable[..., str]) -> None:
    assert expected in refusal(*words)


@pytest.mark.parametrize("words", [["--workers", str(WORKERS_MAX)], ["--workers", "1", "--store", "memory:"]])
def test_as_many_workers_as_may_be_are_accepted(words: list[str]) -> None:
    assert configured(*words).port == 8700


def test_workers_come_from_environment_and_file_too(
    monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], str], refusal: Callable[..., str]
) -> None:
    assert "workers must be 1 to" in refusal("--config", toml("workers = 0"))
    monkeypatch.setenv(variable("workers"), "-1")
    assert "workers must be 1 to" in refusal()


def test_other_systems_do_not_spread_connections(monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert "workers must be 1 on darwin" in refusal("--workers", "2")


def test_listening_beyond_loopback_can_be_accepted() -> None:
    assert configured("--listen", "0.0.0.0:8700", "--allow-anonymous").host == "0.0.0.0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('tttl = "1s"', "unknown key 'tttl'"),
        ('tttl = "1s"', "did you mean ttl?"),
        ("check = true", "unknown key 'check'"),
        ("ttl = 60", "ttl must be a duration"),
        ('ttl = ["1s", "2s"]', "takes one value"),
        ("[ttl]\nseconds = 3", "ttl in "),
        ('pending_max = "many"', "pending_max from "),
        ("ttl = ", "is not a TOML file"),
    ],
)
def test_wrong_files_are_refused_by_key(
    text: str, expected: str, toml: Callable[[str], str], refusal: Callable[..., str]
) -> None:
    assert expected in refusal("--config", toml(text))


def test_unknown_variables_are_refused(monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]) -> None:
    monkeypatch.setenv("SOFTSTATE_TTTL", "1s")
    assert "SOFTSTATE_TTTL; did you mean SOFTSTATE_TTL?" in refusal()


def test_wrong_variables_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]) -> None:
    monkeypatch.setenv(variable("keys_max"), "x")
    assert "SOFTSTATE_KEYS_MAX" in refusal()


@pytest.mark.parametrize("name", ["SOFTSTATE_URL", "SOFTSTATE_TOKEN", "SOFTSTATE_TLS_CA"])
def test_the_variables_of_the_client_commands_are_no_business_of_serve(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "ws://elsewhere:1")
    assert configured() == ServerConfig()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--sessions-max", "9" * 400], "sessions_max must be at most"),
        (["--ttl", "9" * 400 + "h"], "--ttl must be at most"),
        (["--listen", "a..b:1", "--allow-anonymous"], "not a valid name"),
        (["--listen", "\udcff:1", "--allow-anonymous"], "not a valid name"),
    ],
)
def test_what_no_arithmetic_or_resolver_takes_is_refused(
    words: list[str], expected: str, refusal: Callable[..., str]
) -> None:
    """Found by fuzzing: each ended in a traceback, some of them only once the node was to listen."""
    assert expected in refusal(*words)


def test_a_file_nested_too_deep_is_refused(toml: Callable[[str], str], refusal: Callable[..., str]) -> None:
    """Found by fuzzing: it was a RecursionError."""
    assert "nested too deep" in refusal("--config", toml("a = " + "[" * 5_000))


def test_a_store_whose_name_is_no_unicode_can_be_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Found by fuzzing: a strict terminal refused the line that confirms a valid configuration."""
    assert run(["serve", "--check", "--store", "sqlite:\udcff", "--listen", "127.0.0.1:0"]) == 0
    assert "sqlite:\\xff" in capfd.readouterr().out


def test_a_variable_whose_name_has_a_line_end_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    """Found by fuzzing."""
    monkeypatch.setenv("SOFTSTATE_\nX", "1")
    assert "'SOFTSTATE_\\nX'" in refusal()


def test_tls_is_reason_enough_to_take_tokens_from_other_machines(refusal: Callable[..., str]) -> None:
    config = configured("--listen", "0.0.0.0:8700", "--auth", "a.toml", "--tls-cert", "c.pem", "--tls-key", "k.pem")
    assert (config.tls_cert, config.tls_key) == ("c.pem", "k.pem")
    assert "--tls-cert" in refusal("--listen", "0.0.0.0:8700", "--auth", "a.toml")
    assert "--auth" in refusal("--listen", "0.0.0.0:8700", "--tls-cert", "c.pem"), "TLS alone keeps nobody out"
    assert "--tls-cert" in refusal("--tls-key", "k.pem")


def test_a_unix_socket_is_of_this_machine(refusal: Callable[..., str]) -> None:
    config = configured("--listen", "unix:/run/softstate.sock", "--auth", "a.toml")
    assert (config.host, config.port) == ("unix:/run/softstate.sock", 0)
    assert "--workers 1" in refusal("--listen", "unix:/run/softstate.sock", "--workers", "2")
    assert "tls_cert" in refusal("--listen", "unix:/run/softstate.sock", "--tls-cert", "c.pem")


# The policy in the configuration file ---------------------------------------------------------------------------------

OPTIONS = 'ttl = "30s"\nworkers = 1\norigin = ["http://a"]\n'
POLICY = f'[[auth.token]]\nname = "ci"\nsha256 = "{"ab" * 32}"\n[[allow]]\nwho = "anyone"\nread = ["public/"]\n'


def test_the_configuration_file_may_hold_the_policy(toml: Callable[[str], str]) -> None:
    path = toml(OPTIONS + POLICY)
    config = configured("--config", path)
    assert (config.auth, config.auth_in_config, config.ttl_ms) == (path, True, 30_000)
    assert configured("--config", toml(OPTIONS + POLICY[POLICY.index("[[allow]]") :])).auth_in_config
    assert configured("--config", toml(OPTIONS)).auth == ""


def test_a_flag_or_a_variable_goes_before_the_policy_in_the_file(
    toml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toml(OPTIONS + POLICY)
    config = configured("--config", path, "--auth", "auth.toml")
    assert (config.auth, config.auth_in_config) == ("auth.toml", False)
    monkeypatch.setenv("SOFTSTATE_AUTH", "other.toml")
    config = configured("--config", path)
    assert (config.auth, config.auth_in_config) == ("other.toml", False)


def test_a_policy_in_the_file_lets_it_listen_as_a_file_of_its_own_does(toml: Callable[[str], str]) -> None:
    path = toml('listen = "0.0.0.0:8700"\nplaintext_ok = "TLS ends in front"\n' + POLICY)
    assert configured("--config", path).host == "0.0.0.0"


def test_the_check_prints_the_policy_of_the_file(
    toml: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = toml('listen = "127.0.0.1:0"\nstore = "memory:"\n' + POLICY)
    assert run(["serve", "--check", "--config", path]) == 0
    printed = capsys.readouterr().out
    assert "static token ci: nothing of its own" in printed
    assert f"[[allow]] 1 in {path}, line 6: anyone: read public/" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POLICY + "[[auth.tokn]]\n", "unknown key tokn of [auth] in {path}; did you mean 'token'?"),
        (POLICY + "[[alow]]\nx = 1", "unknown key 'alow' in {path}, line 10; did you mean allow?"),
        (POLICY.replace("public/", "public//"), "read of [[allow]] 1 in {path}, line 9: read[1]"),
        ("[auth.issuer]\nx = 1", "issuer of [auth] in {path} must be a list of tables: [[auth.issuer]]"),
        ('auth = "auth.toml"\n[[allow]]\nwho = "anyone"\n', "allow in {path}, line 5: the policy is in the file that"),
        ("[auth]\n", "{path} lets nobody in"),
    ],
)  # fmt: skip
def test_mistakes_of_a_policy_in_the_file_are_told_with_their_line(
    toml: Callable[[str], str], refusal: Callable[..., str], content: str, message: str
) -> None:
    path = toml('ttl = "30s"\nstore = "memory:"\nlisten = "127.0.0.1:0"\n' + content)
    assert message.format(path=path) in refusal("--config", path)


def test_options_are_mistakes_in_a_file_that_holds_the_policy_alone(
    toml: Callable[[str], str], refusal: Callable[..., str]
) -> None:
    path = toml(OPTIONS + POLICY)
    assert f"unknown key ttl in {path}, line 1" in refusal("--auth", path, "--store", "memory:", "--listen", "[::1]:0")


def test_every_key_that_the_file_may_have_is_known_to_the_reader_of_policies() -> None:
    flags = {argument.name.removeprefix("--").replace("-", "_") for argument in command.assemble_argument_collection()}
    assert {name for name in flags if not name.startswith(("no_", "*"))} - FLAGS_ONLY - {"auth"} <= FILE_KEYS
    assert not FILE_KEYS & POLICY_TABLES


def test_the_check_prints_proxies_and_the_callout(
    toml: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("s" * 32)
    others = (
        '[auth.proxy]\ntrusted = ["10.0.0.0/8", "unix"]\n[auth.callout]\nurl = "https://a/"\nsecret_file = "secret"\n'
        'for = ["identity", "names"]\n'
    )
    path = toml('listen = "127.0.0.1:0"\nstore = "memory:"\n' + POLICY + others)
    assert run(["serve", "--check", "--config", path]) == 0
    printed = capsys.readouterr().out
    assert "proxies 10.0.0.0/8, unix: trusted for addresses alone" in printed
    about = "tokens of no issuer and names beyond what rules grant"
    assert f"callout https://a/: asked about {about} (not asked now)" in printed
