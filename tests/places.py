"""Which markers a test has, by where it is, and which tests run in one process: the tables behind `pytest -m` and `-n`.

- ``fast``: the parts that decide without I/O, and the server's parts one by one; all of them take less than a minute.
- ``engines``: needs a real Redis, PostgreSQL or etcd, and starts one of its own.
- ``processes``: starts processes. A test that starts one without this marker or ``engines`` fails.
- ``slow``: a single test that takes seconds.
- ``bench``: a bench of speed, run for a moment with real servers. Left out unless asked for (`pytest -m bench`).
- ``thorough``: the long form of something of which a shorter form always runs. Left out likewise.

A test may have several, or none.
"""

from __future__ import annotations

from collections.abc import Container

MARKERS = ("fast", "engines", "processes", "slow", "bench", "thorough")

PLACES: dict[str, tuple[str, ...]] = {
    "tests": ("fast",),
    "tests/test_extras.py": ("processes",),
    "tests/test_readme.py": ("processes",),
    "tests/bench": ("processes",),
    "tests/docs": ("processes",),
    "tests/docs/test_snippets.py": (),
    "tests/bench/peers/clients/test_failures.py": ("processes", "bench"),
    "tests/bench/speed": ("processes", "bench"),
    "tests/bench/speed/test_nodes.py": ("engines", "processes", "bench"),
    "tests/bench/trials/fuzz": (),
    "tests/cli": (),
    "tests/cli/commands/drill/test_faults.py": ("processes",),
    "tests/cli/commands/drill/test_processes.py": ("processes", "slow"),
    "tests/cli/commands/drill/test_proxy.py": ("processes",),
    "tests/cli/commands/store/test_drill.py": ("processes",),
    "tests/cli/commands/test_durability.py": ("processes",),
    "tests/cli/processes": ("processes",),
    "tests/examples": (),
    "tests/examples/test_applications.py": ("processes",),
    "tests/examples/test_cache.py": ("engines", "processes"),
    "tests/exhaustive": (),
    "tests/integration": (),
    "tests/ops": ("processes",),
    "tests/ops/test_monitoring.py": ("fast",),
    "tests/ops/test_promtool.py": ("engines", "processes"),
    "tests/processes": ("processes",),
    "tests/processes/test_permissions.py": ("processes", "slow"),
    "tests/simulation": (),
    "tests/simulation/test_schedule_herd.py": ("slow",),
    "tests/store": (),
    "tests/store/engines": ("engines",),
    "tests/store/sqlite/test_killed.py": ("processes",),
    "tests/store/sqlite/test_removed_log.py": ("processes",),
    "tests/testing": (),
    "tests/web": ("processes",),
}
"""The markers of a folder or file and all that is in it; the longest name that fits holds."""

NAMED: dict[str, tuple[str, ...]] = {
    "tests/test_places.py::test_the_tests_of_a_unit_share_a_process": ("processes",),
    "tests/testing/conformance/client/test_scripts.py::test_the_command_runs_an_adapter_in_a_process": ("processes",),
    "tests/test_later.py::test_a_node_starts_without_the_client": ("processes",),
    "tests/test_sans_io.py::test_importing_the_sans_io_packages_does_not_import_trio": ("processes",),
    "tests/test_sans_io.py::test_an_import_of_trio_is_seen_in_the_fresh_interpreter": ("processes",),
    "tests/examples/test_examples.py::test_the_test_of_an_application_passes": ("processes",),
    "tests/store/sqlite/test_open.py::test_processes_creating_it_together_share_it": ("processes",),
    "tests/store/sqlite/test_migration.py::test_processes_that_are_killed_leave_one_copy_at_most": ("processes",),
    "tests/testing/simulation/test_world.py::test_the_world_is_imported_only_when_it_is_asked_for": ("processes",),
    "tests/cli/commands/store/test_store.py::test_copying_shows_how_far_it_is_on_a_terminal": ("processes",),
    "tests/integration/test_described_requests.py::test_a_node_answers_very_many_requests_as_it_is_described": (
        "slow",
        "thorough",
    ),
    "tests/integration/test_described_requests.py::test_a_node_answers_as_it_is_described": ("slow",),
    "tests/lease/test_table.py::test_the_order_depends_on_the_history_alone": ("processes",),
    "tests/testing/simulation/test_world.py::test_the_same_seed_does_the_same_in_every_process_and_another_does_not": (
        "processes",
        "slow",
    ),
    "tests/bench/speed/test_fanout.py::test_all_comparisons_run_with_ten_subscribers": ("processes", "slow", "bench"),
    "tests/bench/speed/test_nodes.py::test_everything_is_measured_on_each_engine": (
        "engines",
        "processes",
        "slow",
        "bench",
    ),
    "tests/bench/speed/test_workers.py::test_one_worker_and_two_do_the_same_load": ("processes", "slow", "bench"),
    "tests/bench/trials/test_replay.py::test_a_small_replay_passes_every_check": ("processes", "slow"),
    "tests/exhaustive/test_exhaustive.py::test_a_larger_world_is_visited_in_part": ("slow",),
    "tests/exhaustive/test_exhaustive.py::test_a_small_world_is_visited_whole": ("slow",),
    "tests/exhaustive/test_copies.py::test_what_freezes_to_the_same_does_the_same": ("slow",),
    "tests/simulation/test_mutants.py::test_a_mutant_is_caught_in_a_random_world": ("slow",),
    "tests/simulation/test_random_schedules.py::test_a_seed_draws_the_same_schedule_and_does_the_same_again": ("slow",),
    "tests/simulation/test_random_schedules.py::test_a_schedule_that_hypothesis_chooses_breaks_no_promise": ("slow",),
    "tests/store/rules/test_paging.py::test_paging_ends_with_the_state_of_the_store": ("slow",),
    "tests/wire/test_cbor.py::test_every_tag_is_refused_before_it_does_anything": ("slow",),
}
"""The markers of single tests, where they differ from their place's. `slow` is what --durations showed above 5 s."""

_RANDOM = "tests/simulation/test_random_schedules.py"
_PROXIES = (
    "tests/simulation/test_schedule_proxies.py::test_n9_no_connection_is_idle_for_a_minute_with_the_timers_of_a_node"
)
_RARE_RENEWALS = (
    "tests/simulation/test_schedule_proxies.py::test_n9_a_proxy_cuts_connections_whose_renewals_are_too_rare"
)
_BIT_FLIPS = "tests/store/sqlite/test_bit_flips.py"
_HERD = "tests/simulation/test_schedule_herd.py"
_SIM = "tests/simulation"
_LIMITS = "tests/simulation/test_schedule_limits.py::test_a_mutant_is_noticed"
_CALLOUT = "tests/simulation/test_schedule_callout.py"
_NETWORK = "tests/simulation/test_schedule_network.py"

_WITH_A_WORLD = (
    (
        f"{_SIM}/test_schedule_keys.py::test_a_mutant_is_noticed[policy_files_are_read_once"
        "-test_a7_a_policy_file_is_narrowed_then_spoilt_then_put_right]"
    ),
    (
        f"{_SIM}/test_permission_schedule_mutants.py::test_a_mutant_is_noticed"
        "[all_tokens_are_fetched_at_the_same_part_of_their_time"
        "-test_a10_a_herd_whose_tokens_end_in_the_same_second_fetches_others_over_time]"
    ),
    f"{_LIMITS}[limits_are_not_enforced-test_l1_one_identity_meets_every_limit_and_nobody_else_notices]",
    (
        f"{_LIMITS}[memory_is_not_refused"
        "-test_l4_a_node_without_memory_sheds_the_largest_identity_and_nobody_else_notices]"
    ),
    f"{_LIMITS}[publishes_are_not_limited-test_l6_one_identity_floods_a_node_and_fifty_others_do_not_notice]",
    f"{_LIMITS}[refused_publishes_fail-test_l1_one_identity_meets_every_limit_and_nobody_else_notices]",
)
"""Mutants that are noticed at the end of a long world only."""

_IN_LONG_WORLDS = (
    "tests/exhaustive/test_exhaustive_mutants.py::test_a_mutant_is_caught[certified_applied-]",
    "tests/exhaustive/test_exhaustive_mutants.py::test_a_mutant_is_caught[denied_goes_last-]",
    "tests/exhaustive/test_exhaustive_mutants.py::test_a_mutant_is_caught[left_connection_heard-]",
    "tests/exhaustive/test_exhaustive_mutants.py::test_a_mutant_is_caught[resumption_is_agreement-]",
    f"{_SIM}/test_callout_mutants.py::test_it_is_noticed[answers_hold_for_ever-]",
    f"{_SIM}/test_mutants.py::test_a_mutant_is_caught_in_a_random_world[only_the_highest_is_compared--]",
    f"{_SIM}/test_mutants.py::test_a_mutant_is_caught_in_a_random_world[tombstones_forgotten--]",
    (
        f"{_SIM}/test_mutants.py::test_a_mutant_is_caught_in_an_edge_case"
        "[ages_outlive_a_rewind-published_again_after_a_rewind-]"
    ),
    f"{_SIM}/test_permission_mutants.py::test_a_mutant_breaks_a_promise[provider_is_asked_once-L]",
    (
        f"{_SIM}/test_permission_schedule_mutants.py::test_a_mutant_is_noticed[tokens_are_fetched_without_a_pause"
        "-test_a8_a_provider_gives_the_refused_token_then_hangs_then_fails_then_recovers]"
    ),
    f"{_SIM}/test_schedule_keys.py::test_a_mutant_is_noticed[a_failed_fetch_takes_the_keys-]",
    f"{_SIM}/test_schedule_keys.py::test_a_mutant_is_noticed[keys_are_fetched_for_each_stranger-]",
    (
        f"{_SIM}/test_schedule_keys.py::test_a_mutant_is_noticed[keys_are_fetched_now_and_then_only"
        "-test_a2_a_key_is_rotated_and_its_tokens_are_good_at_once]"
    ),
    f"{_LIMITS}[anybody_is_shed-test_l4_a_node_without_memory_sheds_the_largest_identity_and_nobody_else_notices]",
)
"""Mutants that take two seconds or more. Shorter ones show for each of these files that its oracle sees a break."""

THOROUGH = frozenset(
    {
        *_WITH_A_WORLD,
        *_IN_LONG_WORLDS,
        *(
            f"{_SIM}/test_random_permissions.py::test_a_random_schedule_breaks_no_promise[{seed}]"
            for seed in (1, 3, *range(4, 12), 13)
        ),
        *(f"{_CALLOUT}::test_a6_each_client_costs_a_question_a_minute[{minutes}]" for minutes in (15, 60)),
        *(
            f"{_CALLOUT}::test_a6_nobody_notices_a_callout_that_fails_for_less_than_its_answers_hold[{fault}]"
            for fault in ("down", "hangs")
        ),
        *(
            f"{_CALLOUT}::test_a6_after_that_leases_are_revoked_as_overloaded_and_everybody_comes_back[{fault}]"
            for fault in ("broken", "down")
        ),
        *(
            f"{_SIM}/test_schedule_keys.py::test_a3_strangers_flood_a_node_while_no_keys_can_be_fetched[{fault}-1200.0]"
            for fault in ("broken", "down", "hangs")
        ),
        f"{_SIM}/test_schedule_beats.py::test_k1_ages_hold_while_two_clocks_move_apart_for_ten_minutes[0.99-1.01]",
        *(
            f"{_SIM}/test_schedule_rest.py::test_k1_a_clock_runs_at_another_rate[{host_and_rate}]"
            for host_and_rate in ("a-0.9", "a-1.01", "n1-0.99", "n1-1.1")
        ),
        *(
            f"{_SIM}/test_schedule_streams.py::test_in_random_schedules_no_listener_is_told_an_age_that_is_too_young[{seed}]"
            for seed in (0, 1)
        ),
        f"{_SIM}/test_schedule_streams.py::test_a_relay_that_holds_bytes_back_makes_ages_large_and_none_too_young[2]",
        f"{_SIM}/test_schedule_proxies.py::test_n9_a_proxy_cuts_connections_that_wait_between_polls[reset]",
        f"{_SIM}/test_schedule_proxies.py::test_n9_a_proxy_cuts_connections_that_wait_between_polls[swallow]",
        f"{_HERD}::test_h1_a_herd_whose_node_is_down_knocks_twice_a_client_at_most[3000-1000]",
        "tests/wire/test_records.py::test_a_page_of_any_size[70000-Polled-json]",
        "tests/wire/test_records.py::test_a_page_of_any_size[70000-Subscribed-json]",
        f"{_NETWORK}::test_a_partition[N1 to the node-polling]",
        f"{_NETWORK}::test_a_partition[N2 from the node-polling]",
        f"{_NETWORK}::test_a_partition[N3 both ways-polling]",
        f"{_NETWORK}::test_a_partition[N4 node and store-polling]",
        *(f"{_NETWORK}::test_n7_many_messages_out_of_order_take_no_client_back[{seed}]" for seed in range(16, 20)),
        *(
            f"{_SIM}/test_schedule_permissions.py::test_a0_tokens_are_replaced_in_place_and_nothing_is_noticed[{for_s}]"
            for for_s in (900.0, 3600.0)
        ),
        f"{_SIM}/test_no_token_is_told.py::test_nothing_that_nodes_tell_holds_a_token[callout]",
        *(f"{_RANDOM}::test_a_random_schedule_breaks_no_promise[{seed}]" for seed in range(2, 24)),
        f"{_RANDOM}::test_a_seed_draws_the_same_schedule_and_does_the_same_again",
        f"{_RANDOM}::test_a_schedule_that_hypothesis_chooses_breaks_no_promise",
        f"{_PROXIES}[reset]",
        f"{_PROXIES}[swallow]",
        "tests/exhaustive/test_copies.py::test_what_freezes_to_the_same_does_the_same",
        "tests/exhaustive/test_exhaustive.py::test_a_larger_world_is_visited_in_part",
        "tests/cli/processes/test_output.py::test_a_reader_that_leaves_a_demo_ends_it",
        "tests/bench/trials/test_replay.py::test_a_small_replay_passes_every_check",
        "tests/simulation/test_edge_cases.py::test_polls_from_memory_break_no_promise[polled_from_memory]",
        "tests/cli/commands/drill/test_processes.py::test_a_throw_away_installation_keeps_its_promises[link-sync]",
        "tests/cli/commands/drill/test_processes.py::test_a_throw_away_installation_keeps_its_promises[client-trio]",
        "tests/cli/commands/drill/test_processes.py::test_a_throw_away_installation_keeps_its_promises[rolling-trio]",
        "tests/cli/commands/drill/test_processes.py::test_nodes_with_tls_keep_their_promises_too[server-trio]",
        "tests/exhaustive/test_exhaustive.py::test_walks_at_random_converge",
        "tests/processes/test_crash.py::test_acknowledged_publishes_survive_kill_9_at_any_moment[2]",
        "tests/processes/test_crash.py::test_acknowledged_publishes_survive_kill_9_at_any_moment[3]",
        "tests/simulation/test_mutants.py::test_a_mutant_is_caught_in_a_random_world[certified_applied--]",
        "tests/simulation/test_mutants.py::test_a_mutant_is_caught_in_a_random_world[hub_moves_ahead--]",
        f"{_HERD}::test_h1_to_h3_a_hundred_real_clients_come_back_to_a_real_node[power]",
        f"{_HERD}::test_h1_to_h3_a_hundred_real_clients_come_back_to_a_real_node[bye]",
        f"{_HERD}::test_h1_to_h3_ten_thousand_clients_come_back_as_advised",
        "tests/ops/test_containerfile.py::test_its_steps_make_an_environment_that_serves",
        f"{_HERD}::test_h1_without_spreading_and_shedding_there_is_no_recovery",
        "tests/simulation/test_schedule_overload.py::test_a_herd_comes_back_as_fast_as_the_node_can_serve_it",
        "tests/simulation/test_schedule_overload.py::test_without_a_place_in_the_spread_the_herd_knocks_too_often",
        "tests/simulation/test_schedule_overload.py::test_without_spread_and_admission_the_node_serves_the_dead",
        f"{_BIT_FLIPS}::test_more_damaged_files_do",
        f"{_RARE_RENEWALS}[reset]",
        f"{_RARE_RENEWALS}[swallow]",
        "tests/simulation/test_schedule_rest.py::test_q2_ten_thousand_updates_a_second_conflate_for_slow_clients",
    }
)
"""Tests, some with their parameters, that are `thorough` besides: more of what another parameter always shows, what
worlds of `bench simulate` find as well, or what shows that a rule is needed."""

BY_FILE = "the tests of a file"
BY_ENGINE = "the tests of an engine"
ALONE = "each test"

UNITS = {
    "tests": BY_FILE,
    "tests/bench": "bench",
    "tests/bench/measure": BY_FILE,
    "tests/bench/trials/fuzz": ALONE,
    "tests/cli": "processes",
    "tests/exhaustive": ALONE,
    "tests/integration": ALONE,
    "tests/processes": "nodes",
    "tests/simulation": ALONE,
    "tests/store/engines": BY_ENGINE,
    "tests/store/rules": ALONE,
    _BIT_FLIPS: ALONE,
    "tests/test_architecture.py": "sources",
    "tests/test_names.py": "sources",
    "tests/test_places.py": ALONE,
    "tests/test_readme.py": "processes",
    "tests/testing/simulation": ALONE,
}
"""The units in which tests are given out where they run in parallel (`pytest -n auto`): those of one run one after the
other, in one process. The longest name holds.

Tests of an engine share its server, those of sources what they parsed; those that start nodes would make one another
wait. Of the others a file is a unit, because to give out 6,047 short tests one by one took 106 s of CPU, and to run
them in one process 64; only where single tests take seconds each is a unit of its own.
"""

ENGINES = ("redis", "postgres", "etcd", "sqlite")


def markers_of(test: str) -> tuple[str, ...]:
    """Return the markers of a test, given as ``tests/folder/file.py::name``, with or without parameters."""
    name = test.partition("[")[0]
    markers = NAMED[name] if name in NAMED else PLACES[_longest(name, PLACES)]
    return (*markers, "thorough") if test in THOROUGH or name in THOROUGH else markers


def unit_of(test: str) -> str:
    """Return the unit of `UNITS` that a test belongs to: a group's name, a file, or the test itself."""
    unit = UNITS[_longest(test, UNITS)]
    if unit == BY_ENGINE:
        return _engine_of(test)
    return {BY_FILE: test.partition("::")[0], ALONE: test}.get(unit, unit)


def order_of(test: str) -> int:
    """Return when a test's turn is: groups first, which take longest, then tests that are units, then files."""
    return {test: 1, test.partition("::")[0]: 2}.get(unit_of(test), 0)


def _engine_of(test: str) -> str:
    parameters = test.partition("[")[2].rstrip("]").split("-")
    file = test.rpartition("/")[2].partition("::")[0]
    return next((engine for engine in ENGINES if engine in parameters or f"test_{engine}_" in file), "engines")


def _longest(test: str, places: Container[str]) -> str:
    """Return the file or the innermost folder of a test that is among `places`, "" if none is."""
    place = test.partition("::")[0]
    while place and place not in places:
        place = place.rpartition("/")[0]
    return place
