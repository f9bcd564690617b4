"""The tests of each clause of PROTOCOL.md: an index for people, which `test_protocol` keeps true.

It is one table, a line for a test, and so longer than other files: cut in parts it would be searched part by part.

Tests are named by file and function, transcripts (`softstate/wire/examples`) by their file.
"""

CLAUSES: dict[str, tuple[str, ...]] = {
    # Messages and values
    "P-WIRE-1": (
        "wire/test_codec.py::test_bytes_after_a_cbor_message_are_refused",
        "wire/test_codec.py::test_a_text_frame_on_a_cbor_connection_is_refused_and_json_reads_both",
    ),
    "P-WIRE-2": (
        "wire/websocket/test_frames.py::test_a_frame_is_finished_and_neither_masked_nor_compressed",
        "server/http/test_upgrade.py::test_a_handshake_of_wsproto_is_taken_and_the_answer_is_understood_by_it",
    ),
    "P-WIRE-3": (
        "wire/test_examples.py::test_unknown_fields_are_ignored_in_every_map",
        "wire/test_examples.py::test_an_unknown_request_is_unsupported",
        "client/shell/test_shell.py::test_an_operation_of_a_later_protocol_is_passed_over",
    ),
    "P-WIRE-4": (
        "wire/test_codec.py::test_every_tag_is_refused_before_it_does_anything",
        "wire/test_codec.py::test_ill_formed_or_unusual_cbor_is_refused",
    ),
    "P-WIRE-5": (
        "wire/test_codec.py::test_ill_formed_json_is_refused",
        "wire/test_codec.py::test_the_last_of_duplicate_json_keys_counts",
        "wire/test_codec.py::test_a_second_operation_is_invalid_and_not_unknown",
        "wire/test_codec.py::test_an_operation_that_comes_twice_is_one_and_an_unknown_last_one_is_unsupported",
        "wire/test_codec.py::test_longer_integers_are_refused_and_never_become_floats",
        "wire/test_codec.py::test_a_number_that_is_long_to_read_is_refused_in_a_long_message_and_others_are_exact",
    ),
    "P-WIRE-6": (
        "wire/test_codec.py::test_bytes_in_json",
        "wire/test_codec.py::test_malformed_bytes_in_json_are_refused",
        "wire/test_value.py::test_bytes_in_json_are_standard_base64_and_nothing_else",
    ),
    "P-WIRE-7": (
        "wire/test_value.py::test_an_accepted_value_survives_both_codecs_with_its_types",
        "wire/test_codec.py::test_what_only_cbor_can_say_does_not_get_past_the_check_of_the_value",
        "server/storage/test_writes.py::test_a_change_is_checked_before_it_is_queued",
    ),
    "P-WIRE-8": (
        "simulation/test_schedule_rest.py::test_k4_no_decision_reads_a_wall_clock",
        "wire/test_protocol.py::test_only_durations_cross_the_wire",
    ),
    "P-WIRE-9": (
        "processes/test_foreign_client.py::test_malformed_messages_get_an_error_and_the_connection_lives",
        "processes/test_foreign_client.py::test_bad_messages_are_refused_by_name_and_harm_no_other_client",
        "wire/test_items.py::test_the_id_of_a_request_with_a_wrong_field_is_read",
        "wire/test_items.py::test_no_id_is_made_up",
        "wire/test_items.py::test_the_longest_id_is_read_however_it_is_written",
    ),
    "P-WIRE-10": (
        "client/shell/test_levels.py::test_a_field_of_a_later_level_goes_only_where_that_level_was_told",
        "session/test_machine.py::test_welcome_says_everything",
        "server/http/test_arguments.py::test_every_reply_below_v1_tells_the_level",
    ),
    "P-WIRE-11": (
        "wire/test_items.py::test_both_codecs_count_alike_and_know_the_limit_to_the_last_item",
        "wire/test_items.py::test_the_last_item_fits_and_the_next_is_too_large",
        "wire/test_items.py::test_a_tag_is_refused_before_what_it_holds_is_decoded",
        "wire/test_items.py::test_bytes_behind_an_item_are_refused_before_they_are_decoded",
        "wire/test_items.py::test_cbor_decodes_no_more_than_was_counted",
        "wire/test_items.py::test_json_decodes_no_more_than_was_counted",
        "wire/test_items.py::test_a_list_in_place_of_an_id_is_not_decoded",
        "wire/test_value.py::test_the_last_item_of_a_value_fits_and_the_next_is_too_large",
        "server/websocket/test_large_messages.py::test_the_worst_messages_are_refused_by_their_id",
        "server/http/test_large_bodies.py::test_the_worst_bodies_are_refused",
    ),
    # The life of a connection
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
    # Subscribing without a gap
    "P-SUB-1": (
        "session/test_subscribe.py::test_the_last_page_says_what_the_lease_holds",
        "session/test_subscribe.py::test_replace_keeps_pushing_what_stays",
        "session/test_subscribe.py::test_replace_by_nothing_empties_the_set",
    ),
    "P-SUB-2": (
        "session/test_subscribe.py::test_pushes_wait_for_the_answer_and_lose_what_it_covers",
        "session/test_subscribe.py::test_a_topic_that_an_older_prefix_covers_is_pushed_meanwhile",
    ),
    "P-SUB-3": (
        "session/test_subscribe.py::test_pushes_wait_for_the_answer_and_lose_what_it_covers",
        "session/test_random_walk.py::test_the_walks_match_resume_join_overflow_and_lose_their_lease",
        "server/storage/test_batcher.py::test_a_batch_is_closed_before_its_call_begins",
    ),
    "P-SUB-4": (
        "store/rules/test_paging.py::test_paging_ends_with_the_state_of_the_store",
        "server/http/test_poll_routes.py::test_a_poll_brings_the_differences",
    ),
    "P-SUB-5": (
        "session/test_gap_buffer.py::test_release_leaves_out_what_the_answer_covers",
        "session/test_gap_buffer.py::test_after_release_what_the_answer_covers_is_dropped_until_the_hub_is_beyond",
        "session/test_subscribe.py::test_what_an_answer_has_told_is_not_pushed_behind_it_because_of_another_subscribe",
    ),
    "P-SUB-6": (
        "session/test_subscribe.py::test_a_gap_buffer_that_overflows_costs_one_more_page",
        "session/test_subscribe.py::test_the_last_round_is_served_and_the_next_is_overloaded",
    ),
    "P-SUB-7": (
        "session/test_subscribe.py::test_a_long_answer_comes_in_pages_with_a_read_for_each",
        "store/rules/test_paging.py::test_pages_are_the_whole_answer_cut_up",
        "transcripts/pages.json",
    ),
    "P-SUB-8": (
        "session/test_subscribe.py::test_an_answer_whose_next_page_is_forgotten_is_refused",
        "session/test_subscribe.py::test_a_prefix_compacted_between_two_pages_is_not_swept",
        "store/rules/test_paging.py::test_a_floor_that_passes_since_between_pages_shows_in_compacted",
        "simulation/test_schedule_rest.py::test_d5_tombstones_are_forgotten_between_two_pages",
    ),
    "P-SUB-9": (
        "session/test_subscribe.py::test_a_prefix_below_the_floor_is_named_on_the_last_page",
        "server/http/test_poll_routes.py::test_compacted_prefixes_come_with_the_last_page",
    ),
    "P-SUB-10": (
        "client/machine/test_knowledge.py::test_a_full_answer_sweeps_what_no_page_of_it_listed",
        "client/machine/test_knowledge.py::test_an_answer_since_a_revision_sweeps_nothing_unless_it_says_compacted",
        "client/machine/test_knowledge.py::test_a_sweep_spares_what_a_newer_certificate_covers",
    ),
    "P-SUB-11": ("client/machine/test_knowledge.py::test_the_revision_of_a_sweep_is_never_sent_as_a_version",),
    "P-SUB-12": (
        "store/rules/test_paging.py::test_stand_in_tombstones_share_a_page",
        "store/rules/test_paging.py::test_a_topic_forgotten_while_paging_is_deleted_even_for_a_client_that_held_none",
    ),
    "P-SUB-13": (
        "session/test_subscribe.py::test_names_refused_leave_the_lease",
        "session/test_subscribe.py::test_a_subscribe_that_fails_leaves_the_lease",
        "client/machine/test_machine.py::test_denied_names_leave_the_set_and_are_reported",
    ),
    "P-SUB-14": (
        "session/test_subscribe.py::test_a_subscribe_after_the_deadline_begins_no_lease_unless_it_names_the_whole_set",
        "session/test_subscribe.py::test_a_new_lease_keeps_the_token_and_the_ttl",
    ),
    "P-SUB-15": (
        "session/test_machine.py::test_unsubscribing_ends_the_pushes",
        "processes/test_foreign_client.py::test_unsubscribed_names_are_pushed_no_more",
    ),
    "P-SUB-16": (
        "store/rules/test_prefix_scan.py::test_pages_cut_by_cost_add_up_to_what_one_page_would_say",
        "store/rules/test_prefix_scan.py::test_a_page_of_many_large_prefixes_is_within_the_cost_and_the_answer_in_few_pages",
        "store/rules/test_prefix_scan.py::test_tombstones_are_passed_over_within_the_cost",
    ),
    "P-SUB-17": (
        "server/websocket/test_known_subscribes.py::test_the_answer_is_that_of_the_store",
        "server/websocket/test_known_subscribes.py::test_only_the_newest_versions_are_answered_so",
        "server/websocket/test_known_subscribes.py::test_a_client_that_has_seen_more_is_for_the_store",
        "server/websocket/test_known_subscribes.py::test_an_old_level_is_for_the_store",
    ),
    # Leases and renewals
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
    # Moving knowledge
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
    "P-KNOW-1": (
        "client/machine/test_knowledge.py::test_equal_versions_are_a_no_op_and_lower_ones_are_dropped_and_counted",
        "client/machine/test_knowledge.py::test_a_change_of_what_is_no_topic_is_ignored_on_every_path",
    ),
    "P-KNOW-2": ("client/machine/test_knowledge.py::test_changes_at_or_below_a_certified_revision_are_dropped",),
    "P-KNOW-3": (
        "client/machine/test_knowledge.py::test_only_names_held_without_a_break_since_the_request_are_certified",
        "client/machine/test_machine.py::test_a_poll_certifies_and_sweeps",
    ),
    "P-KNOW-4": (
        "client/machine/test_knowledge.py::test_a_matching_renewal_certifies_the_set_as_it_was_when_it_was_sent",
        "client/machine/test_knowledge.py::test_a_matching_renewal_certifies_only_what_this_lease_answered_for",
        "simulation/test_edge_cases.py::test_a_subscribe_whose_answer_is_lost_is_asked_again",
    ),
    "P-KNOW-5": ("client/machine/test_knowledge.py::test_revision_and_age_move_only_forward",),
    "P-KNOW-6": ("client/machine/test_machine.py::test_a_notify_is_delivered_but_moves_neither_revision_nor_age",),
    "P-KNOW-7": (
        "client/machine/test_knowledge.py::test_after_a_doubt_nothing_moves_until_a_later_request_is_answered",
        "client/machine/test_machine.py::test_after_unknown_only_a_later_answer_moves_what_covers_the_topic",
    ),
    "P-KNOW-8": (
        "client/machine/test_knowledge.py::test_age_is_the_maximum_and_infinite_while_one_is_uncertified",
        "client/machine/test_knowledge.py::test_age_allows_for_a_clock_that_is_a_hundredth_slow",
        "client/machine/test_knowledge.py::test_lag_is_added_to_the_age",
        "client/machine/test_machine.py::test_a_late_answer_counts_from_when_it_was_asked",
    ),
    "P-KNOW-9": (
        "client/machine/test_knowledge.py::test_a_cut_off_answer_is_applied_but_certifies_and_sweeps_nothing",
        "client/machine/test_machine.py::test_pages_are_applied_as_they_come_and_certify_only_with_the_last",
    ),
    "P-KNOW-10": (
        "client/machine/test_machine.py::test_published_never_moves_the_position",
        "transcripts/publish.json",
    ),
    "P-KNOW-11": ("store/rules/test_paging.py::test_a_damaged_record_is_named_and_spoils_no_other",),
    # Resuming a session
    "P-RES-1": (
        "session/test_resume.py::test_a_lost_connection_leaves_a_lease_with_its_names_and_nothing_else",
        "processes/test_lease_time.py::test_everything_about_vanished_clients_goes_by_itself",
        "client/machine/test_unreadable.py::test_an_unreadable_topic_is_told_once_and_its_old_value_stays",
        "client/machine/test_unreadable.py::test_a_full_answer_does_not_sweep_it",
        "client/machine/test_unreadable.py::test_the_next_publish_heals_it_and_renewals_certify_it_again",
        "client/machine/test_small_world.py::test_ages_are_honest_and_everything_converges",
    ),
    "P-RES-2": (
        "session/test_resume.py::test_resuming_replays_what_was_missed_in_one_turn",
        "session/test_resume.py::test_pushes_during_a_resumption_are_held_and_released_once",
        "transcripts/resume.json",
    ),
    "P-RES-3": (
        "session/test_resume.py::test_a_hello_that_lacks_something_begins_a_new_and_empty_session",
        "session/test_resume.py::test_below_the_floor_the_session_is_new",
        "session/test_resume.py::test_only_so_many_changes_are_replayed",
        "session/test_resume.py::test_a_gap_buffer_that_overflows_makes_the_session_new",
        "session/test_resume.py::test_a_lease_that_ends_during_its_resumption_is_not_resumed",
    ),
    "P-RES-4": (
        "client/machine/test_machine.py::test_since_is_the_lowest_certified_revision_and_absent_while_one_has_none",
    ),
    "P-RES-5": (
        "client/machine/test_machine.py::test_it_resumes_only_with_the_set_that_both_sides_agreed_on",
        "client/machine/test_machine.py::test_it_does_not_resume_a_lease_that_must_be_over",
    ),
    "P-RES-6": (
        "session/test_resume.py::test_resuming_ends_the_older_connection",
        "session/test_resume.py::test_a_connection_that_was_lost_cannot_end_a_session_that_was_resumed",
        "transcripts/session_moves.json",
    ),
    "P-RES-7": (
        "client/machine/test_rows.py::test_frames_of_a_connection_that_was_left_are_ignored",
        "client/shell/test_shell.py::test_nothing_is_told_of_a_connection_that_was_left",
    ),
    "P-RES-8": (
        "lease/test_detached.py::test_a_new_session_is_never_refused_because_of_detached_leases",
        "lease/test_detached.py::test_a_tenth_of_the_table_may_be_detached_and_the_first_detached_is_given_up",
        "server/test_node_advice.py::test_dead_leases_raise_no_spread_once_their_clients_would_be_back",
    ),
    # Rewound stores
    "P-REW-1": (
        "testing/conformance/test_check_store.py::test_sqlite_store",
        "processes/test_crash.py::test_a_node_that_joins_is_announced_by_its_lineage",
        "store/engines/test_lost_histories.py::test_restored_and_advanced_while_the_node_is_dead",
    ),
    "P-REW-2": (
        "client/machine/test_machine.py::test_published_never_moves_the_position",
        "client/machine/test_knowledge.py::test_the_position_moves_only_forward",
    ),
    "P-REW-3": (
        "session/test_machine.py::test_a_position_off_the_history_resets_this_client",
        "session/test_subscribe.py::test_a_subscribe_off_the_history_is_rewound",
        "session/test_machine.py::test_a_poll_off_the_history_is_rewound",
        "transcripts/rewound.json",
    ),
    "P-REW-4": ("processes/test_foreign_client.py::test_a_position_off_the_history_resets_that_client",),
    "P-REW-5": (
        "client/machine/test_knowledge.py::test_a_reset_forgets_versions_and_certificates_but_keeps_values_readable",
        "client/machine/test_paths.py::test_a_reset_comes_before_the_first_value_of_the_new_history",
        "client/machine/test_paths.py::test_an_answer_to_a_poll_sent_before_a_reset_is_discarded",
    ),
    "P-REW-6": (
        "session/test_machine.py::test_a_lineage_row_goes_ahead_of_everything_pending",
        "server/fanout/test_outbox.py::test_nothing_goes_ahead_of_the_anchor",
        "server/fanout/test_hub_turns.py::test_a_lineage_row_is_told_in_turns_between_the_changes",
        "client/machine/test_machine.py::test_a_notify_above_the_position_moves_it_in_its_lineage",
    ),
    "P-REW-7": (
        "client/machine/test_knowledge.py::test_a_path_is_usable_in_the_same_lineage_or_from_the_same_position",
        "client/machine/test_paths.py::test_a_poll_answer_of_another_lineage_is_used_only_from_the_position_it_carried",
        "exhaustive/test_exhaustive_mutants.py::test_a_mutant_is_caught",
    ),
    "P-REW-8": (
        "server/storage/test_follower.py::test_a_rewound_store_begins_a_new_history",
        "server/storage/test_follower.py::test_a_position_told_ahead_of_the_hub_is_compared_too",
        "server/storage/test_follower.py::test_a_hub_whose_lineage_was_compacted_away_is_compared_although_more_was_told",
        "transcripts/rewound.json",
    ),
    "P-REW-9": (
        "server/storage/test_guard.py::test_answers_of_another_generation_are_withheld",
        "server/storage/test_heads.py::test_a_hub_of_the_history_before_is_not_level_whatever_its_revision",
        "simulation/test_edge_cases.py::test_nothing_of_a_new_history_is_answered_to_a_session_of_the_old_one",
        "server/test_telling_all.py::test_a_rewind_is_told_in_turns_and_before_anything_of_the_new_history",
    ),
    # Publishing
    "P-PUB-1": (
        "server/storage/test_writes.py::test_a_publish_is_committed_pushed_and_answered_in_this_order",
        "processes/test_crash.py::test_acknowledged_publishes_survive_kill_9_at_any_moment",
    ),
    "P-PUB-2": (
        "server/storage/test_writes.py::test_queued_publishes_share_a_commit_and_each_has_its_own_verdict",
        "server/storage/test_writes.py::test_a_batch_longer_than_a_commit_stays_in_order",
        "processes/test_foreign_client.py::test_pipelined_publishes_are_answered_in_order",
    ),
    "P-PUB-3": (
        "testing/conformance/test_check_store.py::test_sqlite_store",
        "processes/test_foreign_client.py::test_publish_compare_and_set_and_keys",
    ),
    "P-PUB-4": (
        "server/storage/test_writes.py::test_a_retry_gets_the_first_success_and_pushes_nothing",
        "wire/test_request_digest.py::test_requests_that_differ_in_anything_have_different_digests",
        "transcripts/publish.json",
    ),
    "P-PUB-5": (
        "server/storage/test_writes.py::test_a_failed_commit_fails_all_that_waits",
        "simulation/test_schedule_rest.py::test_d2_a_commit_of_unknown_outcome_is_asked_again_and_made_once",
        "client/machine/test_publish_queue.py::test_what_a_lost_connection_owes_is_sent_again_in_order_with_the_same_key",
    ),
    "P-PUB-6": (
        "integration/test_refused_publishes.py::test_a_later_one_is_refused_likewise_until_all_are_answered",
        "integration/test_refused_publishes.py::test_what_was_received_with_the_refused_one_is_refused_with_it",
        "server/storage/test_writes.py::test_once_refused_a_batch_is_refused_to_its_end",
        "client/machine/test_publish_queue.py::test_publishes_of_one_topic_go_one_at_a_time_in_order",
        "client/machine/test_publish_queue.py::test_overloaded_is_a_known_fate",
    ),
    "P-PUB-7": ("server/http/test_topic_routes.py::test_delete_of_an_absent_topic_changes_nothing",),
    "P-PUB-8": (
        "processes/test_hostile.py::test_a_consumer_that_stops_reading_is_demoted_and_converges",
        "transcripts/slow_consumer.json",
    ),
    "P-PUB-9": (
        "server/storage/test_writes.py::test_numbers_are_checked_at_the_door",
        "store/rules/test_publishers.py::test_a_repeated_number_gets_the_first_success",
        "store/rules/test_publishers.py::test_a_settled_number_is_never_applied_again",
    ),
    "P-PUB-10": (
        "store/rules/test_publishers.py::test_only_unknown_publishers_are_refused_when_all_places_are_taken",
        "client/machine/test_paths.py::test_children_of_one_fork_draw_different_publishers",
    ),
    # Over HTTP
    "P-HTTP-1": (
        "server/http/test_server.py::test_error_bodies_have_the_documented_fields_only",
        "server/http/test_topic_routes.py::test_accept",
        "server/http/test_topic_routes.py::test_every_other_body_is_taken_for_json",
        "server/http/test_representations.py::test_a_compressed_body_is_refused_by_the_name_of_its_coding",
    ),
    "P-HTTP-2": (
        "server/http/test_topic_routes.py::test_put_then_get",
        "server/http/test_representations.py::test_no_cache_stores_a_reply",
        "simulation/test_schedule_proxies.py::test_n9_a_cache_that_obeys_its_headers_answers_no_poll",
    ),
    "P-HTTP-3": (
        "server/http/test_topic_routes.py::test_if_none_match",
        "server/http/test_representations.py::test_if_none_match_compares_representations",
        "server/http/test_representations.py::test_if_match_is_a_condition_of_reading_too",
        "server/http/test_topic_routes.py::test_a_tag_names_the_lineage_of_its_version",
        "server/http/test_topic_routes.py::test_no_tag_is_made_of_two_histories",
    ),
    "P-HTTP-4": (
        "server/http/test_topic_routes.py::test_a_hold_ends_with_the_change",
        "server/http/test_topic_routes.py::test_a_hold_ends_with_its_time",
        "server/http/test_topic_routes.py::test_a_hold_on_an_absent_topic_ends_when_it_appears",
        "server/http/test_topic_routes.py::test_draining_ends_holds",
    ),
    "P-HTTP-5": (
        "server/http/test_topic_routes.py::test_if_match_compares_and_sets",
        "server/http/test_topic_routes.py::test_if_match_of_another_history_loses",
        "server/http/test_topic_routes.py::test_if_match_star_needs_a_value",
        "server/http/test_topic_routes.py::test_if_none_match_star_needs_no_value",
    ),
    "P-HTTP-6": (
        "server/http/test_topic_routes.py::test_at_least_waits_for_the_revision",
        "server/http/test_poll_routes.py::test_min_revision",
        "session/test_machine.py::test_a_poll_that_asks_for_more_than_there_is_waits_and_is_told_so",
        "integration/test_min_revision.py::test_a_poll_on_the_websocket_waits_for_its_revision",
    ),
    "P-HTTP-7": (
        "server/http/test_poll_routes.py::test_a_cursor_belongs_to_its_request",
        "server/http/test_poll_routes.py::test_an_answer_that_compaction_cut_off_must_start_over",
        "server/http/test_validators.py::test_a_cursor_comes_back_as_it_went",
    ),
    "P-HTTP-8": (
        "server/http/test_topic_routes.py::test_a_batch_is_applied_in_order_each_with_its_own_verdict",
        "server/http/test_topic_routes.py::test_a_batch_at_the_limit_and_one_over",
        "server/http/test_topic_routes.py::test_bad_batches",
    ),
    "P-HTTP-9": (
        "server/http/test_server.py::test_foreign_origins_are_denied_everywhere",
        "server/http/test_host.py::test_a_request_from_another_site_needs_an_allowed_origin",
        "processes/test_hostile.py::test_a_foreign_origin_is_refused_on_both_surfaces",
    ),
    "P-HTTP-10": (
        "server/http/test_upgrade.py::test_bad_handshakes_are_answered_and_not_upgraded",
        "server/http/test_upgrade.py::test_the_first_known_subprotocol_is_selected",
        "server/http/test_upgrade.py::test_admission_comes_before_the_upgrade",
        "session/test_load_advice.py::test_a_request_is_shed_when_it_would_not_be_served_within_most_of_its_timeout",
        "server/edge/test_admission.py::test_one_that_is_too_late_is_refused_and_at_the_limit_it_is_served",
        "server/edge/test_admission.py::test_all_that_can_be_served_in_time_are_served_in_order",
        "server/edge/test_admission.py::test_one_more_is_served_first_and_the_others_behind_it",
        "server/edge/test_admission.py::test_a_node_is_full_when_four_times_as_many_wait_as_it_can_serve_in_time",
        "server/http/test_shedding.py::test_the_age_counts_from_the_request_however_old_its_connection_is",
        "server/http/test_shedding.py::test_publishes_and_probes_and_single_topics_are_not_shed",
        "server/test_node_admission.py::test_at_the_limit_of_greetings_none_is_accepted_until_one_is_answered",
    ),
    "P-HTTP-11": (
        "server/http/test_server.py::test_head_size_at_the_limit_and_one_over",
        "server/http/test_server.py::test_header_count_at_the_limit_and_one_over",
        "server/http/test_server.py::test_body_size_at_the_limit_and_one_over",
        "server/http/test_server.py::test_a_slow_head_times_out",
        "server/http/test_server.py::test_a_slow_body_times_out",
        "server/http/test_server.py::test_a_connection_beyond_the_limit_is_answered_and_closed",
        "server/http/test_topic_routes.py::test_holds_at_the_limit_and_one_over",
    ),
    "P-HTTP-12": (
        "server/http/test_host.py::test_other_names_are_denied_over_http_and_websocket",
        "server/http/test_host.py::test_every_route_has_the_rule",
        "server/http/test_host.py::test_a_target_in_absolute_form_names_the_host_too",
    ),
    "P-HTTP-13": (
        "server/http/test_arguments.py::test_an_unknown_parameter_is_named_with_the_nearest_known_one",
        "server/http/test_arguments.py::test_an_unknown_field_is_named_with_its_place",
    ),
    "P-HTTP-14": (
        "server/http/test_tombstones.py::test_a_deleted_topic_is_not_found_with_the_version_of_its_tombstone",
        "integration/test_tombstones.py::test_the_client_sees_the_tombstone_of_a_real_node",
    ),
    "P-HTTP-15": (
        "server/http1/test_strict.py::test_refused",
        "server/http1/test_strict.py::test_taken",
        "server/http1/test_strict.py::test_nothing_is_read_behind_a_refusal",
        "server/http/test_host.py::test_an_invalid_host_is_no_request",
        "bench/trials/fuzz/test_runner.py::test_nothing_breaks",
    ),
    "P-HTTP-16": (
        "server/http/test_hang_up.py::test_a_hundred_that_hung_up_leave_room_for_one_that_waits",
        "server/http/test_hang_up.py::test_a_peer_that_ends_its_side_alone_is_answered_at_once",
        "server/http/test_hang_up.py::test_sockets_that_hang_up_are_noticed",
    ),
    "P-HTTP-17": (
        "server/http/test_unchanged_polls.py::test_a_poll_with_the_newest_versions_is_answered_alike_with_and_without_the_store",
        "server/http/test_unchanged_polls.py::test_a_prefix_is_answered_without_the_store_as_long_as_nothing_changes",
        "server/storage/test_unchanged.py::test_an_asker_that_has_seen_more_or_other_is_for_the_store",
        "server/storage/test_unchanged.py::test_nothing_is_answered_from_a_history_that_is_over",
        "server/storage/test_unchanged.py::test_while_the_store_is_slow_polls_are_answered_with_growing_ages_for_half_of_a_timeout",
        "server/fanout/test_known_versions.py::test_an_answer_that_is_older_than_a_change_that_has_passed_teaches_nothing",
    ),
    # The client
    "P-CLI-1": (
        "client/machine/test_paths.py::test_the_next_poll_comes_when_the_node_says_or_after_the_interval_with_jitter",
        "client/machine/test_rows.py::test_connections_refused_do_not_hold_back_polls_that_succeed",
        "simulation/test_schedule_network.py::test_n8_websocket_is_blocked_and_http_works",
        "client/machine/test_one_fetch.py::test_while_a_snapshot_arrives_page_by_page_nothing_is_polled",
        "client/machine/test_one_fetch.py::test_names_are_polled_beside_pages_that_bring_nothing",
    ),
    "P-CLI-2": (
        "client/machine/test_one_flight.py::test_the_welcome_restarts_the_timer",
        "client/machine/test_machine.py::test_each_page_restarts_the_timers_of_later_requests",
        "client/machine/test_machine.py::test_answers_to_later_requests_do_not_keep_a_lost_renewal_waiting",
    ),
    "P-CLI-3": (
        "client/shell/test_clock.py::test_the_system_clock_runs_during_suspend",
        "client/shell/test_clock.py::test_clocks_of_different_rates_never_add_up_to_a_jump",
        "client/shell/test_shell.py::test_a_host_that_slept_is_noticed_in_every_mode",
        "client/api/test_suspend.py::test_a_poll_that_fell_due_in_sleep_is_sent_within_a_second",
    ),
    "P-CLI-4": (
        "client/machine/test_backoff.py::test_backoff_has_full_jitter_under_a_doubling_bound_up_to_the_cap",
        "client/machine/test_backoff.py::test_the_next_url_is_tried_at_once_until_all_failed_in_this_round",
        "client/machine/test_backoff.py::test_a_backoff_covers_the_spread",
        "client/machine/test_paths.py::test_two_stores_behind_one_url_are_not_polled_without_a_pause",
        "client/machine/test_told_waits.py::test_a_shed_dial_waits_as_told_and_then_within_the_spread",
        "simulation/test_schedule_herd.py::test_h1_without_spreading_and_shedding_there_is_no_recovery",
    ),
    "P-CLI-5": (
        "client/machine/test_backoff.py::test_retry_after_is_never_cut_short",
        "client/machine/test_rows.py::test_offline_retry_after_wins",
        "client/machine/test_told_waits.py::test_a_wait_of_a_day_counts_as_an_hour",
        "client/machine/test_told_waits.py::test_a_pause_holds_for_the_node_that_asked_even_if_polls_have_moved_on",
        "client/machine/test_told_waits.py::test_a_node_that_asks_for_an_hour_does_not_keep_the_client_from_another",
    ),
    "P-CLI-6": (
        "client/machine/test_rows.py::test_a_url_that_answers_404_is_for_polling_only",
        "integration/test_refused_host.py::test_a_node_that_refuses_its_name_is_left_alone",
        "client/machine/test_rows.py::test_if_no_url_serves_websocket_it_stays_polling_and_asks_again_much_later",
    ),
    "P-CLI-7": (
        "client/machine/test_machine.py::test_some_farewells_drop_the_session",
        "client/machine/test_machine.py::test_close_code_4001_drops_the_session",
    ),
    "P-CLI-8": (
        "client/machine/test_machine.py::test_a_subscribe_that_waiting_cannot_mend_reports_its_names",
        "client/machine/test_machine.py::test_a_subscribe_in_vain_while_live_is_sent_again",
        "client/machine/test_machine.py::test_compacted_lists_anew",
    ),
    "P-CLI-9": (
        "client/machine/test_machine.py::test_a_large_set_goes_in_several_subscribes_the_first_of_which_replaces",
        "client/machine/test_machine.py::test_names_beyond_the_limit_are_denied",
    ),
    "P-CLI-10": (
        "client/machine/test_publish_queue.py::test_a_fate_unknown_beyond_the_keys_life_is_reported",
        "client/machine/test_paths.py::test_a_publish_unanswered_for_long_leaves_the_connection",
        "client/machine/test_paths.py::test_publishes_wait_a_second_for_the_first_connection",
    ),
    "P-CLI-11": (
        "client/machine/test_portions.py::test_a_subscribe_in_portions_leaves_the_whole_set_and_every_renewal_matches_it",
        "client/machine/test_portions.py::test_no_portion_is_longer_than_allowed_in_either_codec",
        "client/machine/test_portions.py::test_a_value_too_large_is_refused_and_never_sent",
        "client/api/test_limits.py::test_long_names_beyond_one_message_are_live_and_stay_so",
    ),
    "P-CLI-12": (
        "client/machine/test_refused_polls.py::test_a_poll_refused_is_told_once_and_not_sent_again_unchanged",
        "client/machine/test_refused_polls.py::test_a_poll_too_large_goes_in_halves_until_one_fits_and_stays_so",
        "client/machine/test_refused_polls.py::test_a_set_that_was_too_large_goes_in_halves_again_when_it_is_back",
        "client/machine/test_refused_polls.py::test_a_poll_refused_is_tried_again_much_later",
        "client/machine/test_refused_polls.py::test_a_refused_cursor_does_not_condemn_its_question",
        "client/machine/test_refused_polls.py::test_a_cursor_that_comes_again_ends_the_answer",
        "client/machine/test_refused_polls.py::test_an_answer_whose_pages_bring_nothing_newer_ends_as_an_error_of_the_node",
        "client/machine/test_one_fetch.py::test_a_connection_whose_answer_comes_to_no_end_is_left",
        "client/api/test_read.py::test_a_list_whose_cursor_comes_again_ends_as_an_error_of_the_node",
    ),
    "P-CLI-13": (
        "client/machine/test_reach.py::test_a_dial_in_its_place_of_the_spread_is_repeated_one_spread_later",
        "client/machine/test_reach.py::test_a_first_dial_that_was_not_spread_is_repeated_within_the_whole_spread",
        "client/machine/test_reach.py::test_where_the_spread_is_short_a_wait_is_at_most_half_of_the_absence",
        "client/machine/test_probes.py::test_while_a_url_refuses_polls_wait_for_the_probe_of_the_connection",
        "client/machine/test_probes.py::test_publishes_have_a_backoff_of_their_own_that_no_spread_lengthens",
        "simulation/test_schedule_herd.py::test_h1_a_herd_whose_node_is_down_knocks_twice_a_client_at_most",
    ),
    "P-CLI-14": (
        "client/machine/test_table.py::test_a_lost_lease_spreads_its_reconnect_and_polls_before_a_late_one",
        "client/machine/test_table.py::test_a_connection_that_comes_soon_and_then_takes_long_is_passed_by_a_poll",
        "client/shell/test_kept_polls.py::test_polls_keep_their_connection",
    ),
    "P-CLI-15": (
        "client/machine/test_rows.py::test_k_rounds_of_failed_polls_are_offline_with_one_retry_budget",
        "client/machine/test_rows.py::test_offline_with_nothing_to_poll_it_only_connects",
        "client/machine/test_retry_budget.py::test_a_client_all_of_whose_polls_are_turned_down_is_offline_when_its_connections_fail",
        "client/machine/test_probes.py::test_a_node_that_answers_polls_keeps_its_clients_fresh_while_the_one_that_pushes_is_dead",
    ),
    "P-CLI-16": (
        "client/machine/test_one_flight.py::test_a_new_session_is_subscribed_behind_hello",
        "client/machine/test_one_flight.py::test_1024_names_go_early_to_a_url_that_has_told_no_limits",
        "client/machine/test_one_flight.py::test_as_many_go_early_as_the_url_has_told",
        "client/machine/test_one_flight.py::test_an_error_for_what_a_reset_made_void_is_ignored",
        "client/machine/test_one_flight.py::test_an_answer_to_what_a_reset_made_void_is_ignored",
        "client/machine/test_one_flight.py::test_an_early_request_that_is_turned_down_is_asked_again_and_denies_nothing",
        "client/machine/test_one_flight.py::test_a_mismatch_after_a_session_that_was_not_resumed_is_no_repair",
        "client/machine/test_one_flight.py::test_hello_goes_alone_after_a_connection_that_ended_over_it",
        "simulation/test_edge_cases.py::test_a_client_is_live_one_round_trip_after_its_handshake",
    ),
    "P-CLI-17": (
        "client/machine/test_outcomes.py::test_a_refusal_counts_unless_an_earlier_attempt_may_have_been_applied",
        "client/machine/test_outcomes.py::test_what_was_in_flight_when_the_client_stops_has_an_unknown_outcome",
        "client/machine/test_outcomes.py::test_a_lower_limit_refuses_what_was_not_applied_and_leaves_the_rest_unknown",
        "client/machine/test_outcomes.py::test_closing_tells_what_may_have_been_applied",
        "cli/processes/test_refused.py::test_a_refusal_without_a_look_tells_nothing_of_an_earlier_attempt",
    ),
    "P-CLI-18": (
        "client/machine/test_advice.py::test_renewals_polls_and_suspicion_have_a_pace_of_their_own",
        "client/machine/test_advice.py::test_leases_that_end_at_once_follow_each_other_ever_more_slowly",
        "client/machine/test_advice.py::test_connections_whose_leases_end_at_once_back_off",
        "client/machine/test_advice.py::test_a_node_that_advises_a_week_and_dies_does_not_keep_a_client_from_another",
    ),
    "P-CLI-19": (
        "client/machine/test_credentials.py::test_nothing_begins_before_there_is_a_token",
        "client/machine/test_credentials.py::test_a_token_is_fetched_well_before_it_ends_and_presented_in_place",
        "client/machine/test_credentials.py::test_a_client_that_slept_refreshes_with_its_first_event",
        "client/machine/test_credentials.py::test_a_fetch_that_fails_is_made_again_with_full_jitter",
        "client/machine/test_credentials.py::test_a_refused_token_is_replaced_and_all_paths_wait",
        "client/machine/test_credentials.py::test_the_same_token_again_is_not_presented_again",
        "client/machine/test_credentials.py::test_publishes_that_are_refused_are_made_again_behind_the_token",
        "client/machine/test_credentials.py::test_three_other_tokens_that_are_refused_stop_the_client",
    ),
    # Permissions
    "P-AUTH-1": (
        "session/test_credentials.py::test_a_hello_without_good_credentials_ends_the_connection",
        "session/test_credentials.py::test_credentials_that_are_not_good_never_make_anybody_anonymous",
    ),
    "P-AUTH-2": (
        "session/test_permission.py::test_a_name_is_refused_unless_one_pattern_covers_all_of_it",
        "session/test_permission.py::test_few_denied_prefixes_of_many_are_narrowed",
        "session/test_permission.py::test_a_poll_answers_for_what_may_be_read",
    ),
    "P-AUTH-3": (
        "session/test_credentials.py::test_no_lease_goes_beyond_the_credentials",
        "session/test_credentials.py::test_credentials_within_their_last_second_count_as_over",
        "session/test_credentials.py::test_the_welcome_tells_how_long_credentials_are_good_from_the_arrival_of_hello",
        "session/test_credentials.py::test_any_request_finds_credentials_that_are_over_and_ends_the_lease",
    ),
    "P-AUTH-4": (
        "session/test_permission.py::test_a_denied_topic_is_the_same_whether_it_exists",
        "session/test_permission.py::test_a_publish_needs_its_own_right_and_learns_of_others_only_what_it_may_read",
        "session/test_permission.py::test_names_are_judged_again_before_they_are_answered",
        "session/test_permission.py::test_names_of_a_poll_are_judged_again_before_they_are_answered",
        "server/auth/test_discretion.py::test_a_conflict_tells_no_version_to_those_who_may_not_read_it",
    ),
    "P-AUTH-5": (
        "session/test_permission.py::test_a_renewal_takes_out_what_may_not_be_read_any_more_and_tells_it_first",
        "session/test_permission.py::test_what_is_pending_of_denied_names_is_dropped_and_the_rest_stays",
        "server/fanout/test_outbox_denied.py::test_a_reply_ahead_waits_for_the_anchor_alone",
        "server/fanout/test_outbox_denied.py::test_pushes_that_are_not_kept_are_discarded_with_the_beat_that_counts_them",
    ),
    "P-AUTH-6": (
        "session/test_credentials.py::test_new_credentials_of_the_same_subject_take_the_place_of_the_old",
        "session/test_credentials.py::test_new_credentials_that_are_not_good_do_no_harm_to_the_old",
        "session/test_credentials.py::test_new_credentials_after_the_lease_has_ended_allow_another",
        "session/test_credentials.py::test_new_credentials_ahead_of_the_welcome_are_invalid",
        "session/test_credentials.py::test_new_credentials_that_end_sooner_do_not_end_the_lease_before_its_client_expects_it",
    ),
    "P-AUTH-7": (
        "session/test_credentials.py::test_only_the_principal_that_opened_a_session_resumes_it",
        "session/test_credentials.py::test_a_session_some_of_whose_names_may_not_be_read_any_more_is_not_resumed",
        "session/test_credentials.py::test_a_session_is_not_resumed_if_rules_change_while_it_is_read",
    ),
    "P-AUTH-8": (
        "server/http/test_credentials.py::test_nothing_is_answered_without_good_credentials",
        "server/http/test_credentials.py::test_a_refusal_is_the_same_whether_the_topic_exists",
        "server/http/test_credentials.py::test_a_held_request_is_judged_again_when_it_is_answered",
        "server/http/test_credentials.py::test_a_held_request_ends_with_its_credentials",
        "server/http/test_credentials.py::test_a_handshake_may_present_a_token",
        "session/test_credentials.py::test_a_handshake_may_present_the_token_but_not_another_than_hello",
    ),
    "P-AUTH-9": (
        "auth/test_revocations.py::test_each_kind_revokes_what_it_names_and_nothing_else",
        "auth/test_revocations.py::test_a_value_that_is_not_understood_revokes_for_good",
        "auth/test_revoking.py::test_a_signed_token_that_was_good_is_over_and_says_why",
        "server/fanout/test_hub_revocations.py::test_a_lease_that_is_revoked_gets_nothing_of_the_batch",
        "server/auth/test_warden.py::test_all_leases_that_rest_on_it_end_and_no_other",
        "server/http/test_credentials.py::test_a_read_waits_until_the_node_has_heard_what_was_revoked",
        "server/websocket/test_silence.py::test_a_session_whose_credentials_were_revoked",
    ),
}
