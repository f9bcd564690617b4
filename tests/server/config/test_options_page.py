from pathlib import Path

import softstate.server.config.options_page as options_page
from softstate.lease.weight import GROUP_BYTES, NAME_BYTES, SESSION_BYTES
from softstate.server.config.server_config import SETTINGS
from softstate.server.memory.watch import CONNECTION_BYTES, TLS_BYTES


def test_the_page_of_options_is_what_the_configuration_says() -> None:
    written = Path(options_page.__file__).with_name("OPTIONS.md").read_text(encoding="utf-8")
    assert written == options_page.page(), (
        "write it again: python -m softstate.server.config.options_page > softstate/server/config/OPTIONS.md"
    )


def test_the_page_tells_what_is_counted() -> None:
    assert f"| a connection / its TLS | {CONNECTION_BYTES:,} / {TLS_BYTES // 1024} KiB |" in options_page.page()
    assert f"| a session | {SESSION_BYTES:,} |" in options_page.page()
    assert f"| {NAME_BYTES} / {NAME_BYTES + GROUP_BYTES} |" in options_page.page()


def test_the_page_has_a_row_for_every_field() -> None:
    rows = options_page.page().splitlines()
    options = [setting for setting in SETTINGS if setting.name not in options_page.NO_OPTIONS]
    assert len([row for row in rows if row.startswith("| `auth` |")]) == 1
    for setting in options:
        assert [row for row in rows if row.startswith(f"| `{setting.option}`") and row.endswith(f"{setting.text} |")]
    assert "| `ttl` | 60s | 1s to 86400s | Duration of a lease that is not renewed. |" in rows
    assert "| `listen`, the port | 8700 | 0 to 65535 | Port to listen on; 0 takes any free one. |" in rows
