"""``python -m bench NAME``: each trial and each bench of speed is a command."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from types import FrameType
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from bench.everything import run_everything
from bench.measure.options import Measuring
from bench.models.command import ModelsPlan, show_models
from bench.models.page import PAGE, write as write_page
from bench.peers.clients.libraries import libraries
from bench.peers.peers import TABLES, Table, peers
from bench.peers.systems import Places
from bench.spectrum.spectrum import spectrum
from bench.speed.auth.auth import auth
from bench.speed.beats import beats
from bench.speed.browser import browser
from bench.speed.churn.churn import churn
from bench.speed.client import client
from bench.speed.fanout import fanout
from bench.speed.latency import latency
from bench.speed.leases import leases
from bench.speed.lone import lone
from bench.speed.nodes.nodes import nodes
from bench.speed.overload import overload
from bench.speed.polls import polls
from bench.speed.publish import publish
from bench.speed.reads import reads
from bench.speed.recovery.recovery import recovery
from bench.speed.sessions import sessions
from bench.speed.stalled import stalled
from bench.speed.start import start
from bench.speed.streams import streams
from bench.speed.sustained import sustained as publish_without_rest
from bench.speed.tls import tls
from bench.speed.turns import turns
from bench.speed.workers import workers
from bench.trials.fuzz.runner import TARGETS, fuzz
from bench.trials.herd import Plan as HerdPlan, herd
from bench.trials.replay import Plan, replay
from bench.trials.simulate import simulate
from bench.trials.trace import write_trace
from softstate.cli.exit_codes import INTERRUPTED, leaf
from softstate.cli.options.durations import duration as a_duration
from softstate.cli.processes.interrupt import interruptible
from softstate.errors import ConfigError, SoftstateError

app = App(
    name="bench",
    help="Trials of softstate's correctness, and benches of its speed.",
    backend="trio",
    result_action="return_value",
)


@app.command(name="replay")
async def replay_command(
    file: Path,
    *,
    watchers: int = 20,
    kills: int = 5,
    seed: int | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Replay a file of changes through a node that is killed repeatedly, and check the final state of watchers.

    :param file: Lines as ``softstate publish --ndjson`` reads them, plain or compressed with gzip.
    :param watchers: Number of ``softstate watch --json`` processes that follow it, over several prefixes.
    :param kills: Number of times that the node is killed with SIGKILL and started again while the file is published.
    :param seed: Decides the names that are watched and the times of the kills; printed, so that a run can be repeated.
    :param json: Print the figures as JSON.
    """
    seed = SystemRandom().randrange(2**32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="softstate-replay-") as folder:

        async def work() -> int:
            report = await replay(Plan(file, watchers, kills, seed), Path(folder))
            print(report.json() if json else report)
            return 0 if report.ok else 1

        return await interruptible(work)


@app.command
def trace(file: Path, *, changes: int = 10_000, topics: int = 500, seed: int = 0) -> None:
    """Write a synthetic file of changes to replay.

    :param file: The file to write; compressed if its name ends in .gz.
    :param changes: Number of lines.
    :param topics: Number of topics.
    :param seed: The same seed writes the same file.
    """
    write_trace(file, changes, topics, seed)


@app.command(name="fuzz")
def fuzz_command(
    *,
    target: str = "all",
    duration: Annotated[float, Parameter(name="--for", converter=a_duration, metavar="DURATION")] = 60.0,
    seed: int | None = None,
) -> int:
    """Feed parsers with wrong and hostile inputs, until one breaks its documented rules.

    :param target: A target of `bench.trials.fuzz.runner.TARGETS`, or all.
    :param duration: Time for each target, such as 60s or 10m.
    :param seed: Decides all inputs; printed, so that a run can be repeated.
    """
    if target not in (*TARGETS, "all"):
        raise ConfigError(f"--target must be all or one of {', '.join(TARGETS)}, not {target!r}")
    seed = SystemRandom().randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    ok = True
    for name in TARGETS if target == "all" else [target]:
        tally = fuzz(name, seed, seconds=duration)
        print(tally, *([tally.finding] if tally.finding else []), sep="\n", flush=True)
        ok = ok and tally.finding is None
    return 0 if ok else 1


@app.command(name="simulate")
def simulate_command(
    *,
    seeds: int = 200,
    first: int = 0,
    permissions: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run simulated worlds under random faults, and check all promises in each.

    :param seeds: Number of worlds.
    :param first: Seed of the first one; the same seed is the same world.
    :param permissions: Nodes check credentials: tokens, rules, keys, callouts and clocks have faults as well.
    :param json: Print the figures as JSON.
    """
    report = simulate(seeds, first, permissions=permissions)
    print(report.json() if json else report)
    return 0 if report.ok else 1


@app.command(name="fanout")
def fanout_command(measuring: Measuring = Measuring()) -> int:
    """Measure the cost of a delivery, one publisher to many subscribers, beside other servers and a loop in C."""
    return measuring.show(fanout(measuring))


@app.command(name="stalled")
def stalled_command(measuring: Measuring = Measuring()) -> int:
    """Measure the effect of one stalled and one slow reader on a thousand others."""
    return measuring.show(stalled(measuring))


@app.command(name="latency")
def latency_command(measuring: Measuring = Measuring()) -> int:
    """Measure the time from a publish to its subscribers at 10 %, 50 % and 90 % of the ceiling."""
    return measuring.show(latency(measuring))


@app.command(name="turns")
def turns_command(measuring: Measuring = Measuring()) -> int:
    """Measure the longest turns that the worst messages cause, and an innocent's delays beside them."""
    return measuring.show(turns(measuring))


@app.command(name="sessions")
def sessions_command(measuring: Measuring = Measuring()) -> int:
    """Measure the cost of holding, opening and renewing sessions, beside bare trio-websocket."""
    return measuring.show(sessions(measuring))


@app.command(name="streams")
def streams_command(measuring: Measuring = Measuring()) -> int:
    """Measure streams of events and polls that are held, beside WebSockets and plain polls."""
    return measuring.show(streams(measuring))


@app.command(name="churn")
def churn_command(
    measuring: Measuring = Measuring(),
    *,
    sessions: Annotated[tuple[int, ...], Parameter(negative=(), validator=Number(gte=1))] = (),
    only: Annotated[tuple[str, ...], Parameter(negative=())] = (),
) -> int:
    """Measure leases, staleness, CPU and memory while clients come, go, vanish and return, beside models.

    :param sessions: Clients present in the steady state; may be repeated. The default is 1,000, 5,000, 20,000 and
        50,000, with --quick 500.
    :param only: A scenario to run: steady, crowd, departure or mobile; may be repeated. The default is all of them.
    """
    return measuring.show(churn(measuring, sessions, only))


@app.command(name="overload")
def overload_command(measuring: Measuring = Measuring()) -> int:
    """Measure goodput while more new connections come than a node can serve."""
    return measuring.show(overload(measuring))


@app.command(name="recovery")
def recovery_command(
    measuring: Measuring = Measuring(),
    *,
    clients: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    down: Annotated[float, Parameter(converter=a_duration, metavar="DURATION")] = 0.0,
    busy: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    peers: Annotated[Path | None, Parameter(metavar="DIR")] = None,
) -> int:
    """Kill a node with thousands of clients, and measure their return.

    :param clients: Number of clients: 15,000 if not given, 1,000 with --quick.
    :param down: Time from the kill until the node is started again, such as 0s, 2s or 10s.
    :param busy: Number of cores that other processes keep busy meanwhile.
    :param peers: Folder of the programs of other systems, centrifugo and nats-server; else PATH is searched.
    """
    return measuring.show(recovery(measuring, clients, down, busy, peers))


@app.command(name="leases")
def leases_command(measuring: Measuring = Measuring()) -> int:
    """Measure the lease table alone, with up to a million leases, beside a bare dict."""
    return measuring.show(leases(measuring))


@app.command(name="client")
def client_command(measuring: Measuring = Measuring()) -> int:
    """Measure one client's first snapshot of up to a million topics, by stage of its CPU."""
    return measuring.show(client(measuring))


@app.command(name="browser")
def browser_command(
    measuring: Measuring = Measuring(),
    *,
    npm: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    peers: Annotated[Path | None, Parameter(metavar="DIR")] = None,
) -> int:
    """Measure the client for browsers in Node.js, beside centrifuge-js: bytes, CPU of a change, time after a kill.

    :param npm: Folder in whose node_modules npm has installed centrifuge.
    :param peers: Folder of the program centrifugo; else PATH is searched.
    """
    return measuring.show(browser(measuring, npm, peers))


@app.command(name="polls")
def polls_command(measuring: Measuring = Measuring()) -> int:
    """Measure conditional polls, unchanged and changed, beside a bare server of h11."""
    return measuring.show(polls(measuring))


@app.command(name="reads")
def reads_command(measuring: Measuring = Measuring()) -> int:
    """Measure what a node serves of costly reads, and to others, when more is asked than it can do."""
    return measuring.show(reads(measuring))


@app.command(name="publish")
def publish_command(
    measuring: Measuring = Measuring(), *, sustained: Annotated[bool, Parameter(negative=())] = False
) -> int:
    """Measure durable publishes over HTTP and WebSocket, beside bare SQLite and servers that store nothing.

    :param sustained: Publish at full speed for 10 minutes instead (1 with --quick), and see that nothing grows.
    """
    return measuring.show(publish_without_rest(measuring) if sustained else publish(measuring))


@app.command(name="lone")
def lone_command(measuring: Measuring = Measuring()) -> int:
    """Measure the CPU of an idle node, and of publishes that come one at a time, beside bare SQLite."""
    return measuring.show(lone(measuring))


@app.command(name="beats")
def beats_command(measuring: Measuring = Measuring()) -> int:
    """Measure the ages that idle clients state, and the time until they notice a silent node."""
    return measuring.show(beats(measuring))


@app.command(name="workers")
def workers_command(measuring: Measuring = Measuring()) -> int:
    """Measure the gain of a second worker on the same port and store."""
    return measuring.show(workers(measuring))


@app.command(name="nodes")
def nodes_command(
    *, store: Annotated[tuple[str, ...], Parameter(negative=())] = (), measuring: Measuring = Measuring()
) -> int:
    """Measure 1, 2 and 4 nodes on one store, beside the engine alone.

    :param store: redis, postgres, etcd or sqlite for a throw-away one, or a URL of your own; may be repeated. The
        default is all installed ones.
    """
    return measuring.show(nodes(measuring, store))


@app.command(name="tls")
def tls_command(measuring: Measuring = Measuring()) -> int:
    """Measure what TLS costs: deliveries, one at a time and in bursts, and handshakes."""
    return measuring.show(tls(measuring))


@app.command(name="auth")
def auth_command(measuring: Measuring = Measuring()) -> int:
    """Measure what permissions cost, and the time until a revocation is in force, beside a node without them."""
    return measuring.show(auth(measuring))


@app.command(name="start")
def start_command(measuring: Measuring = Measuring()) -> int:
    """Measure the CPU of commands that ask a node once, beside an interpreter that imports Trio."""
    return measuring.show(start(measuring))


@app.command(name="herd")
def herd_command(plan: Annotated[HerdPlan, Parameter(name="*")] = HerdPlan()) -> None:
    """Kill a modelled node with thousands of real client machines, in virtual time, and print their return."""
    print(herd(plan))


@app.command(name="models")
def models_command(plan: Annotated[ModelsPlan, Parameter(name="*")] = ModelsPlan()) -> int:
    """Measure what the models of the literature and of this project predict, in simulation, and compare."""
    return show_models(plan)


@app.command(name="peers")
def peers_command(
    measuring: Measuring = Measuring(),
    *,
    folder: Annotated[Path | None, Parameter(name="--peers", metavar="DIR")] = None,
    npm: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    system: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    table: Annotated[tuple[Table, ...], Parameter(negative=())] = (),
) -> int:
    """Measure softstate beside other systems, those that are installed: fan-out, bursts, memory, connects, publishes.

    :param folder: Folder of the programs of other systems, centrifugo and nats-server; else PATH is searched.
    :param npm: Folder in whose node_modules npm has installed socket.io, ws and bufferutil; else that of NPM_FOLDER.
    :param system: Name of a system to measure; may be repeated. The default is all of them.
    :param table: A table to make; may be repeated. The default is all of them.
    """
    return measuring.show(peers(measuring, Places(folder, npm), system, table or TABLES))


@app.command(name="libraries")
def libraries_command(
    measuring: Measuring = Measuring(),
    *,
    only: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    npm: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    peers: Annotated[Path | None, Parameter(metavar="DIR")] = None,
) -> int:
    """Kill a server, and lose all packets, beside official client libraries: when applications know, and are told.

    :param only: A library to measure; may be repeated. The default is all that are installed.
    :param npm: Folder in whose node_modules npm has installed the libraries; else that of the variable NPM_FOLDER.
    :param peers: Folder of the programs of other systems, centrifugo and nats-server; else PATH is searched.
    """
    return measuring.show(libraries(measuring, Places(peers, npm), only))


@app.command(name="all")
def all_command(
    into: Path = Path("bench.txt"),
    *,
    only: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    quick: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run every bench and trial, each in a process of its own, and write all output to one file.

    :param into: The file; it is replaced.
    :param only: A command to run; may be repeated. The default is all of them.
    :param quick: Smaller sizes of all that has them.
    """
    failed = [outcome.name for outcome in run_everything(into, only, quick=quick) if outcome.code]
    print(f"{into}: failed: {', '.join(failed)}" if failed else f"{into}: nothing failed")
    return 1 if failed else 0


@app.command(name="spectrum")
def spectrum_command(
    *,
    seed: int = 1,
    quick: Annotated[bool, Parameter(negative=())] = False,
    write: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Compare where session state may be: nowhere, in the node, in a store beside it, durable for good.

    :param seed: Decides all that is random.
    :param quick: Fewer clients and shorter phases.
    :param write: Write the tables into softstate/docs/evidence.md.
    """
    part = spectrum(seed, quick=quick)
    print(part)
    if write:
        write_page([part], PAGE)
    return 0 if part.ok else 1


def interrupt_at_signals() -> None:
    """Have SIGTERM do what Ctrl-C does, and SIGHUP unless it is ignored, as under nohup.

    Python would end there at once, and leave servers and load generators behind. Of several such signals the first one
    counts: another must not break off the cleaning up. To be called in the main thread.
    """
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)

    def interrupt(_number: int, frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        # While Trio runs, its handler of Ctrl-C raises only where that breaks nothing.
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    for number in numbers:
        signal.signal(number, interrupt)


def main() -> None:
    """Run the command in `sys.argv`."""
    interrupt_at_signals()
    try:
        code = app()
    except (KeyboardInterrupt, SoftstateError, BaseExceptionGroup) as raised:
        error = leaf(raised)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        if isinstance(error, SoftstateError):
            sys.exit(f"bench: {error}")
        raise
    sys.exit(code)


if __name__ == "__main__":
    main()
