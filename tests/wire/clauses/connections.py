"""P-CONN: the life of a connection."""

CONNECTIONS: dict[str, tuple[str, ...]] = {
    "P-CONN-1": (
        "session/test_machine.py::test_table",
        "processes/test_foreign_client.py::test_a_connection_begins_with_hello_or_ends",
        "processes/test_hostile.py::test_a_websocket_without_hello_is_closed",
    ),
    "P-CONN-2": (
        "session/test_machine.py::test_the_client_may_ask_for_a_shorter_lease",
        "processes/test_foreign_client.py::test_a_shorter_lease_may_be_asked_for_and_a_longer_may_not",
    ),
    "P-CONN-3": (
        "session/test_machine.py::test_welcome_says_everything",
        "session/test_renew.py::test_renewed_says_everything_behind_what_is_pending",
        "simulation/test_schedule_herd.py::test_h1_to_h3_ten_thousand_clients_come_back_as_advised",
    ),
    "P-CONN-4": (
        "session/test_machine.py::test_while_the_store_is_asked_nothing_else_is_read",
        "session/test_renew.py::test_renewed_waits_for_the_answer_to_an_earlier_subscribe",
    ),
    "P-CONN-5": (
        "server/fanout/test_outbox.py::test_a_half_written_reply_still_holds_up_the_reader",
        "server/fanout/test_outbox.py::test_replies_count_as_pending_but_are_never_refused",
        "processes/test_lease_time.py::test_everything_about_vanished_clients_goes_by_itself",
    ),
    "P-CONN-6": (
        "server/fanout/test_outbox.py::test_more_entries_than_the_bound_are_overdue_once_and_drop",
        "server/fanout/test_outbox.py::test_congested_for_too_long_is_overdue_again_and_again",
        "processes/test_hostile.py::test_a_consumer_that_stops_reading_is_demoted_and_converges",
        "transcripts/slow_consumer.json",
    ),
    "P-CONN-7": (
        "session/test_revoke.py::test_a_push_that_waits_is_replaced_by_a_newer_one_in_its_place",
        "server/fanout/test_outbox_model.py::test_any_interleaving_writes_what_the_model_says",
    ),
    "P-CONN-8": (
        "session/test_revoke.py::test_revoking_ends_the_lease_and_drops_what_rests_on_it",
        "session/test_revoke.py::test_a_request_that_rests_on_the_lease_goes_with_it",
        "session/test_revoke.py::test_a_poll_goes_on_without_a_lease",
        "session/test_revoke.py::test_after_denied_nothing_is_read_without_new_credentials",
    ),
    "P-CONN-9": (
        "session/test_machine.py::test_bye_releases_the_lease_at_once",
        "processes/test_shutdown.py::test_sigterm_says_goodbye_and_finishes_what_is_in_flight",
    ),
    "P-CONN-10": (
        "server/test_node_advice.py::test_a_poll_over_http_is_told_the_advice_of_all_others",
        "server/test_node_advice.py::test_a_node_without_sessions_advises_by_the_polls_that_it_sees",
        "server/test_node_advice.py::test_handshakes_are_measured_up_to_the_first_answered_subscribe",
    ),
    "P-CONN-11": (
        "session/test_portions.py::test_no_turn_deals_with_more_names_than_the_limit",
        "session/test_portions.py::test_a_failed_subscribe_leaves_in_portions_and_is_answered_then",
        "session/test_portions.py::test_a_lease_that_ends_in_between_is_not_resurrected",
        "session/test_portions.py::test_another_connection_takes_the_session_over_in_between",
        "server/fanout/test_turns.py::test_all_tasks_share_the_budget_of_a_turn",
    ),
    "P-CONN-12": (
        "integration/test_contained.py::test_a_bug_at_a_door_ends_one_connection_or_request_at_most",
        "integration/test_contained.py::test_whatever_the_bug_is",
    ),
    "P-CONN-13": (
        "server/storage/test_read_queue.py::test_cheap_reads_are_served_between_dear_ones",
        "server/storage/test_read_queue.py::test_goodput_at_many_times_the_load_is_that_of_the_peak",
        "server/storage/test_read_queue.py::test_reads_whose_asker_has_gone_are_not_made",
        "server/storage/test_read_queue.py::test_an_answer_that_was_made_is_delivered_late",
    ),
    "P-CONN-14": (
        "server/websocket/test_channel.py::test_a_violation_gets_its_close_code_behind_the_answers_to_what_came_ahead",
        "server/websocket/test_channel.py::test_the_close_frame_of_a_peer_is_answered_behind_its_messages",
        "wire/websocket/test_frame_reader.py::test_a_fault_is_found_at_its_last_byte_behind_what_came_ahead",
    ),
    "P-CONN-15": (
        "wire/websocket/test_frame_reader.py::test_the_most_fragments_make_a_message_and_one_more_is_refused",
        "wire/websocket/test_frame_reader.py::test_the_most_control_frames_pass_and_one_more_is_refused",
        "server/websocket/test_channel.py::test_pings_are_not_answered_while_congested",
        "server/websocket/test_channel.py::test_many_messages_received_at_once_are_taken_in_many_turns",
    ),
    "P-CONN-16": (
        "session/test_one_flight.py::test_one_read_answers_both",
        "session/test_one_flight.py::test_pushes_wait_for_both_answers_and_lose_what_the_read_covers",
        "session/test_one_flight.py::test_a_rewound_store_resets_the_client_and_voids_the_subscribe",
        "session/test_one_flight.py::test_a_subscribe_that_breaks_a_rule_is_refused_behind_the_welcome",
        "session/test_one_flight.py::test_a_refused_hello_leaves_no_lease_of_what_came_behind_it",
        "session/test_one_flight.py::test_a_renew_behind_a_hello_that_resumes_is_answered_behind_the_welcome",
        "server/websocket/test_one_flight.py::test_hello_and_subscribe_are_one_read_of_the_store",
        "transcripts/one_flight.json",
    ),
    "P-CONN-17": (
        "lease/test_weight.py::test_a_session_and_a_name_beyond_the_weight_are_refused_and_nothing_that_is_there",
        "lease/test_weight.py::test_leases_without_a_connection_end_first_then_those_of_the_largest_identity",
        "server/memory/test_watch.py::test_a_full_node_ends_leases_of_the_largest_identity_and_says_when_to_come_back",
        "simulation/test_schedule_limits.py::test_l4_a_node_without_memory_sheds_the_largest_identity_and_nobody_else_notices",
    ),
}
