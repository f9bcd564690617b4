"""P-REN, P-BEAT: leases, renewals, beats."""

RENEWALS: dict[str, tuple[str, ...]] = {
    "P-REN-1": (
        "wire/test_subscription_digest.py::test_the_published_vectors",
        "wire/test_subscription_digest.py::test_the_sum_wraps_at_64_bits",
        "wire/test_example_files.py::test_a_set_has_its_digest",
    ),
    "P-REN-2": (
        "session/test_renew.py::test_renewed_comes_when_the_hub_has_applied_the_head_read_after_it",
        "server/storage/test_heads.py::test_a_renewal_that_comes_while_a_head_is_read_gets_another",
        "server/fanout/test_hub.py::test_the_position_moves_after_the_last_offer",
    ),
    "P-REN-3": (
        "session/test_renew.py::test_renewed_says_everything_behind_what_is_pending",
        "session/test_renew.py::test_renewed_waits_for_the_answer_to_an_earlier_subscribe",
        "server/fanout/test_outbox.py::test_dropping_keeps_a_half_written_frame_and_replies_that_need_no_lease",
    ),
    "P-REN-4": (
        "session/test_revoke.py::test_a_push_that_waits_is_replaced_by_a_newer_one_in_its_place",
        "server/fanout/test_outbox_model.py::test_a_renewal_counts_the_pushes_ahead_of_it",
    ),
    "P-REN-5": (
        "session/test_renew.py::test_renew_extends_the_lease_on_receipt_and_never_shortens_it",
        "session/test_subscribe.py::test_subscribe_extends_the_lease_before_any_read",
        "session/test_resume.py::test_resuming_extends_the_lease_before_any_read",
        "lease/test_table.py::test_a_lease_is_granted_with_grace_and_found_by_its_token",
    ),
    "P-REN-6": (
        "client/machine/test_machine.py::test_the_leases_end_comes_before_the_nodes_also_while_the_store_is_down",
    ),
    "P-REN-7": (
        "session/test_renew.py::test_a_renewal_after_the_deadline_finds_no_lease",
        "server/fanout/test_hub.py::test_nothing_is_pushed_past_the_deadline_even_before_the_sweep",
        "processes/test_lease_time.py::test_a_node_stopped_for_two_ttls_honours_no_old_lease",
    ),
    "P-REN-8": (
        "session/test_renew.py::test_another_set_does_not_match",
        "client/machine/test_table.py::test_a_set_in_disorder_is_subscribed_anew",
        "simulation/test_schedule_rest.py::test_q3_sets_that_differ_are_found_by_their_digest",
    ),
    "P-REN-9": (
        "server/fanout/test_outbox_model.py::test_a_renewal_counts_the_pushes_ahead_of_it",
        "client/machine/test_machine.py::test_every_push_on_the_connection_counts",
        "client/machine/test_table.py::test_a_set_in_disorder_is_subscribed_anew",
    ),
    "P-REN-10": (
        "session/test_renew.py::test_while_the_store_is_down_the_lease_is_renewed_but_nothing_certified",
        "session/test_renew.py::test_while_the_store_is_down_no_history_is_named_that_is_over",
        "server/storage/test_heads.py::test_each_renewal_is_settled_within_half_of_a_client_s_timeout",
        "client/machine/test_table.py::test_with_the_store_down_nothing_is_certified_and_the_mode_stays",
    ),
    "P-REN-11": (
        "client/machine/test_rows.py::test_renewals_are_jittered_by_a_fifth",
        "session/test_load_advice.py::test_a_renewal_comes_after_a_third_of_the_ttl",
    ),
    "P-REN-12": (
        "server/websocket/test_renewals.py::test_a_renewal_soon_after_another_reads_nothing_and_says_how_old_its_answer_is",
        "server/websocket/test_renewals.py::test_a_renewal_reads_the_head_while_the_hub_is_behind_what_was_told",
        "server/storage/test_level.py::test_its_age_counts_from_the_beginning_of_the_read",
        "server/storage/test_level.py::test_a_read_that_began_in_another_history_does_not_count",
        "server/test_clock.py::test_it_begins_with_the_process_and_runs_while_the_host_is_suspended",
        "server/websocket/test_renewals.py::test_a_renewal_soon_after_a_subscribe_is_answered_from_its_read",
    ),
    "P-REN-13": (
        "server/measure/test_client_reports.py::test_a_client_counts_once_by_what_it_said_last",
        "server/websocket/test_told_ages.py::test_a_session_counts_by_its_last_renewal_until_it_ends",
        "server/websocket/test_told_ages.py::test_a_poll_counts_until_the_next_is_due",
        "client/machine/test_told_ages.py::test_an_age_is_told_rounded_up",
        "client/machine/test_told_ages.py::test_a_client_without_names_tells_no_age",
        "client/machine/test_told_ages.py::test_a_client_that_never_knew_tells_the_longest_age",
    ),
    "P-BEAT-1": (
        "session/test_beats.py::test_a_beat_is_a_second_doubled_and_two_fit_between_renewals",
        "session/test_beats.py::test_hello_and_renew_ask_and_the_answers_grant",
        "server/websocket/test_beats.py::test_beats_that_cost_too_much_come_less_often_and_say_so",
    ),
    "P-BEAT-2": (
        "session/test_beats.py::test_a_name_that_the_lease_lost_ends_the_beats",
        "session/test_beats.py::test_a_beat_of_another_history_than_was_named_last_is_not_sent",
        "server/websocket/test_beats.py::test_the_position_is_where_the_hub_was_when_it_had_reached_the_head",
        "server/websocket/test_beats.py::test_while_the_store_does_not_answer_beats_repeat_the_last_level",
        "server/websocket/test_beats.py::test_of_a_history_that_is_over_nothing_is_certified",
        "exhaustive/test_exhaustive_mutants.py::test_a_beat_of_a_history_that_is_over_is_caught",
    ),
    "P-BEAT-3": (
        "session/test_beats.py::test_answers_tell_the_node_s_clock_rounded_up",
        "server/test_clock.py::test_it_begins_with_the_process_and_runs_while_the_host_is_suspended",
    ),
    "P-BEAT-4": (
        "server/fanout/test_outbox_beats.py::test_a_beat_waits_behind_all_that_waits_and_what_comes_later_waits_behind_it",
        "server/fanout/test_outbox_beats.py::test_a_newer_beat_does_not_take_the_place_of_one_that_waits",
        "server/fanout/test_outbox_beats.py::test_what_is_dropped_takes_the_beat_with_it",
    ),
    "P-BEAT-5": (
        "client/machine/test_beats.py::test_a_name_that_was_not_answered_gets_nothing_from_it",
        "client/machine/test_beats.py::test_a_resumption_is_not_enough_and_a_matching_renewal_is",
        "client/machine/test_beats.py::test_a_beat_of_another_lineage_moves_nothing",
        "client/machine/test_beats.py::test_the_end_of_the_lease_is_looked_at_first",
    ),
    "P-BEAT-6": (
        "client/machine/test_beat_watch.py::test_no_beat_is_taken_for_younger_than_it_is",
        "client/machine/test_beat_watch.py::test_a_beat_from_the_future_proves_a_broken_clock",
        "client/machine/test_beats.py::test_after_a_sleep_the_anchor_counts_no_more",
    ),
    "P-BEAT-7": (
        "client/machine/test_beats.py::test_silence_asks_first_and_then_makes_the_connection_suspect",
        "client/machine/test_beats.py::test_a_node_that_never_beats_is_asked_ever_less_often",
    ),
}
