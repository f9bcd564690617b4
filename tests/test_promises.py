"""The tests of each promise of `softstate/ARCHITECTURE.md`: an index for people. A test checks that each is there."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

PROMISES = {
    "S1 monotone": (
        "client/machine/test_knowledge.py::test_equal_versions_are_a_no_op_and_lower_ones_are_dropped_and_counted",
        "client/machine/test_small_world.py::test_ages_are_honest_and_everything_converges",
        "client/machine/test_rows.py::test_frames_of_a_connection_that_was_left_are_ignored",
        "bench/trials/test_replay.py::test_a_small_replay_passes_every_check",
    ),
    "S2 no phantom": (
        "server/storage/test_writes.py::test_a_publish_is_committed_pushed_and_answered_in_this_order",
        "processes/test_store_faults.py::test_a_full_disk_acknowledges_nothing_and_leases_stay",
    ),
    "S3 nothing lost": (
        "processes/test_crash.py::test_acknowledged_publishes_survive_kill_9_at_any_moment",
        "store/sqlite/test_killed.py::test_nothing_acknowledged_is_lost",
        "integration/test_client_and_node.py::test_many_publishes_in_flight_survive_a_crash_exactly_once_and_in_order",
        "simulation/test_schedule_store.py::test_d1_the_store_is_read_only_and_nothing_but_publishing_stops",
        "store/engines/test_outages.py::test_publishes_in_flight_when_it_is_killed_are_applied_once_each",
    ),
    "S4 compare-and-set": (
        "testing/conformance/test_check_store.py::test_sqlite_store",
        "store/engines/test_redis_store.py::test_redis_store",
        "store/engines/test_postgres_store.py::test_contract",
        "store/engines/test_etcd_store.py::test_contract",
        "processes/test_foreign_client.py::test_publish_compare_and_set_and_keys",
        "server/storage/test_writes.py::test_a_retry_gets_the_first_success_and_pushes_nothing",
        "simulation/test_edge_cases.py::test_a_key_used_after_a_restore_is_not_aged_by_the_lost_history",
    ),
    "S5 honest age": (
        "client/machine/test_beat_watch.py::test_no_beat_is_taken_for_younger_than_it_is",
        "client/machine/test_small_world.py::test_ages_are_honest_and_everything_converges",
        "client/machine/test_machine.py::test_a_late_answer_counts_from_when_it_was_asked",
        "client/machine/test_table.py::test_a_host_that_slept_is_suspect",
        "integration/test_client_and_node.py::test_a_store_that_is_down_lets_ages_grow_and_keeps_leases",
        "store/engines/test_outages.py::test_the_age_is_honest_about_commits_of_others_before_the_node_is_back",
    ),
    "S6 lease overlap": (
        "client/machine/test_machine.py::test_the_leases_end_comes_before_the_nodes_also_while_the_store_is_down",
        "processes/test_lease_time.py::test_a_node_stopped_for_two_ttls_honours_no_old_lease",
    ),
    "S7 complete watermark": (
        "session/test_beats.py::test_a_name_that_the_lease_lost_ends_the_beats",
        "client/machine/test_beats.py::test_a_name_that_was_not_answered_gets_nothing_from_it",
        "session/test_random_walk.py::test_a_random_walk_certifies_nothing_that_is_missing",
        "session/test_renew.py::test_renewed_comes_when_the_hub_has_applied_the_head_read_after_it",
        "session/test_subscribe.py::test_pushes_wait_for_the_answer_and_lose_what_it_covers",
        "server/fanout/test_hub.py::test_short_cuts_and_pages_in_any_order_leave_no_gap_and_bring_nothing_twice",
        "server/fanout/test_outbox_model.py::test_a_renewal_counts_the_pushes_ahead_of_it",
        "simulation/test_schedule_store.py::test_d4_a_store_that_shows_commits_out_of_order_is_detected",
        "simulation/test_schedule_rest.py::test_q3_sets_that_differ_are_found_by_their_digest",
        "simulation/test_edge_cases.py::test_a_commit_that_is_answered_after_its_history_was_replaced_is_not_pushed",
    ),
    "S8 no resurrection": (
        "client/machine/test_knowledge.py::test_changes_at_or_below_a_certified_revision_are_dropped",
        "store/rules/test_paging.py::test_paging_ends_with_the_state_of_the_store",
        "session/test_subscribe.py::test_a_prefix_compacted_between_two_pages_is_not_swept",
    ),
    "S9 loud reset": (
        "client/machine/test_paths.py::test_a_reset_comes_before_the_first_value_of_the_new_history",
        "processes/test_store_faults.py::test_a_restored_backup_resets_the_clients_that_saw_more",
        "integration/test_client_and_node.py::test_a_restored_store_resets_its_clients_before_anything_of_the_new_history",
        "store/engines/test_lost_histories.py::test_restored_and_advanced_while_the_node_is_dead",
        "store/engines/test_failover.py::test_to_one_that_lacks_something",
    ),
    "S10 bounded memory": (
        "server/fanout/test_outbox.py::test_more_entries_than_the_bound_are_overdue_once_and_drop",
        "server/fanout/test_outbox.py::test_bytes_are_bounded_also_when_pushes_are_replaced_by_larger_ones",
        "processes/test_hostile.py::test_a_consumer_that_stops_reading_is_demoted_and_converges",
        "processes/test_lease_time.py::test_everything_about_vanished_clients_goes_by_itself",
        "simulation/test_schedule_rest.py::test_q2_ten_thousand_updates_a_second_conflate_for_slow_clients",
    ),
    "S11 amnesia": (
        "session/test_random_walk.py::test_a_random_walk_certifies_nothing_that_is_missing",
        "session/test_revoke.py::test_a_lease_forgotten_while_its_renewal_waits_is_not_renewed",
        "integration/test_client_and_node.py::test_amnesia_is_repaired_by_the_next_renewal",
    ),
    "S12 revocation": (
        "session/test_permission.py::test_a_renewal_takes_out_what_may_not_be_read_any_more_and_tells_it_first",
        "session/test_credentials.py::test_no_lease_goes_beyond_the_credentials",
        "session/test_credentials.py::test_any_request_finds_credentials_that_are_over_and_ends_the_lease",
        "server/http/test_changing_rules.py::test_a_held_request_is_judged_again_when_it_is_answered",
        "server/fanout/test_hub_revocations.py::test_a_lease_that_is_revoked_gets_nothing_of_the_batch",
        "server/http/test_changing_rules.py::test_a_read_waits_until_the_node_has_heard_what_was_revoked",
        "processes/test_revocations.py::test_what_is_published_behind_a_revocation_reaches_nobody_that_it_is_of",
        "simulation/test_schedule_permissions.py::test_a7_rules_are_narrowed_to_a_part_of_a_prefix",
        "simulation/test_schedule_permissions.py::test_a9_a_clock_for_people_is_set",
        "server/fanout/test_hub_revocations.py::test_the_hub_stays_where_it_is_until_all_leases_have_ended",
        "simulation/test_schedule_revocations.py::test_a1_subjects_are_revoked_while_they_are_live",
        "simulation/test_schedule_revocations.py::test_a1_a_subject_is_revoked_while_pages_are_read_for_it",
        "simulation/test_schedule_revocations.py::test_a5_a_subject_is_revoked_while_one_node_cannot_hear_of_it",
        "simulation/test_permission_mutants.py::test_a_mutant_of_revocations_breaks_s12",
        "processes/test_permissions.py::test_a_client_goes_on_through_rules_that_change",
        "simulation/test_schedule_keys.py::test_a7_a_policy_file_is_narrowed_then_spoilt_then_put_right",
        "exhaustive/test_credentials.py::test_a_small_world_is_visited_whole",
    ),
    "S13 no widening": (
        "session/test_permission.py::test_a_name_is_refused_unless_one_pattern_covers_all_of_it",
        "server/http/test_credentials.py::test_a_poll_answers_for_what_may_be_read",
        "simulation/test_schedule_permissions.py::test_a_slow_consumer_gets_nothing_that_it_may_not_read_any_more",
    ),
    "S14 no dead channel": (
        "client/machine/test_refused_credentials.py::test_refusals_that_waiting_mends_stop_no_client",
        "simulation/test_schedule_permissions.py::test_a4_a_token_ends_in_the_midst_of_a_fault",
        "simulation/test_schedule_permissions.py::test_a8_a_provider_gives_the_refused_token_then_hangs_then_fails_then_recovers",
        "simulation/test_schedule_revocations.py::test_a_revocation_is_undone",
        "simulation/test_schedule_keys.py::test_a3_strangers_flood_a_node_while_no_keys_can_be_fetched",
        "simulation/test_schedule_keys.py::test_a3_keys_that_are_too_old_end_all_and_everybody_comes_back",
    ),
    "S15 no downgrade": (
        "session/test_credentials.py::test_credentials_that_are_not_good_never_make_anybody_anonymous",
        "server/http/test_credentials.py::test_nothing_is_answered_without_good_credentials",
        "simulation/test_schedule_revocations.py::test_a_node_that_was_started_behind_a_revocation_refuses_the_token",
    ),
    "S16 one principal": (
        "session/test_credentials.py::test_only_the_principal_that_opened_a_session_resumes_it",
        "session/test_credentials.py::test_new_credentials_that_are_not_good_do_no_harm_to_the_old",
    ),
    "S17 no repairs": (
        "client/machine/test_denied_names.py::test_names_that_were_lost_leave_the_set_and_are_reported_without_a_repair",
        "simulation/test_schedule_permissions.py::test_a0_tokens_are_replaced_in_place_and_nothing_is_noticed",
        "simulation/test_schedule_permissions.py::test_a2_a_key_is_rotated_and_then_removed",
        "simulation/test_schedule_revocations.py::test_a1_one_token_is_revoked_and_no_other",
    ),
    "S18 contained": (
        "integration/test_contained.py::test_a_bug_at_a_door_ends_one_connection_or_request_at_most",
        "integration/test_contained.py::test_a_hub_that_fails_twice_ends_the_node_at_once",
        "server/fanout/test_hub.py::test_a_record_that_cannot_be_pushed_revokes_the_leases_that_cover_the_turn",
        "server/storage/test_batcher_bugs.py::test_only_the_requests_that_meet_a_bug_get_it_and_it_counts_once",
        "simulation/test_edge_cases.py::test_damaged_records_are_refused_alone_and_heal",
        "integration/test_unreadable.py::test_over_http_it_alone_is_refused",
        "integration/test_unreadable.py::test_over_websocket_it_alone_is_refused",
        "server/test_bulkhead.py::test_a_group_of_bugs_and_others_is_split",
    ),
    "B staleness bound": (
        "client/machine/test_beats.py::test_silence_asks_first_and_then_makes_the_connection_suspect",
        "client/machine/test_table.py::test_a_missed_answer_polls_everything_now_and_renews_once_more",
        "client/machine/test_rows.py::test_connections_refused_do_not_hold_back_polls_that_succeed",
        "processes/test_lease_time.py::test_a_silent_session_expires_and_is_pushed_to_no_more",
        "simulation/test_schedule_proxies.py::test_n9_a_proxy_cuts_connections_whose_renewals_are_too_rare",
        "simulation/test_schedule_proxies.py::test_n9_a_cache_that_obeys_its_headers_answers_no_poll",
    ),
    "L convergence": (
        "client/machine/test_small_world.py::test_ages_are_honest_and_everything_converges",
        "integration/test_client_and_node.py::test_a_killed_node_leaves_its_clients_polling_another_and_live_again_later",
        "bench/trials/test_replay.py::test_a_small_replay_passes_every_check",
        "simulation/test_schedule_herd.py::test_h1_to_h3_ten_thousand_clients_come_back_as_advised",
    ),
}


@pytest.mark.parametrize("promise", PROMISES)
def test_every_test_named_for_a_promise_exists(promise: str) -> None:
    for name in PROMISES[promise]:
        path, _, function = name.partition("::")
        tree = ast.parse((TESTS / path).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function in functions, f"{promise}: {name} is gone; name the test that took its place"
