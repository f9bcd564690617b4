"""``softstate serve``: start a node, or several on one port, and serve until told to stop."""

from __future__ import annotations

import os
from pathlib import Path

from cyclopts import App

from softstate.cli import exit_codes
from softstate.cli.options.layers import layer
from softstate.cli.options.serve_options import Advanced, ServeOptions, config_of
from softstate.cli.options.store_urls import check_file_of, plain, shown
from softstate.cli.processes.node_log import configure_logging
from softstate.cli.processes.node_process import run_node
from softstate.cli.processes.service_manager import service_manager
from softstate.cli.terminal.announcement import announce
from softstate.store import check_url

command = App(
    name="serve",
    help="""\
Start a node and serve until told to stop.

Every option may also come from a SOFTSTATE_… environment variable (SOFTSTATE_TTL=60s) or from a TOML file (--config).
SIGTERM and Ctrl-C drain: clients are sent elsewhere, publishes in flight finish. A second signal stops at once.
""",
    config=layer,
)


@command.default
async def serve(
    options: ServeOptions = ServeOptions(),  # noqa: B008 - frozen
    advanced: Advanced = Advanced(),  # noqa: B008 - frozen
) -> int:
    """Run one node, or a supervisor of several, until a signal has drained it."""
    config = config_of(options, advanced)
    check_url(config.store)
    check_file_of(config.store)
    if options.check:
        from softstate.cli.processes.rehearsal import rehearse  # noqa: PLC0415 - a node does without it

        await rehearse(config, shared=options.workers > 1)
        certificate = ""
        if config.tls_cert:
            from softstate.cli.terminal.certificate_report import describe_certificate  # noqa: PLC0415 - only for TLS

            certificate = describe_certificate(config)
        store = plain(shown(config.store))
        listen = options.listen if config.port == 0 else f"{config.host}:{config.port}"
        valid = f"The configuration is valid: listen {listen}, store {store}, role {config.role}."
        if config.auth:
            from softstate.cli.terminal.policy_report import report_policy  # noqa: PLC0415 - a node does without it

            asked = bool(config.tls_client_ca)
            await report_policy(Path(config.auth), valid, in_config=config.auth_in_config, client_ca=asked)
        else:
            print(valid)
        if certificate:
            print(certificate)
        return exit_codes.OK
    configure_logging(options.log_format, verbose=options.verbose)
    manager = service_manager(os.environ)
    if options.workers == 1:
        return await run_node(config, announce, log_format=options.log_format, manager=manager)
    from softstate.cli.processes.workers import supervise  # noqa: PLC0415 - one node does without it

    return await supervise(config, options.workers, options.log_format, verbose=options.verbose, manager=manager)
