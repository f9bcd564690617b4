"""P-SSE: streams of events."""

STREAMS: dict[str, tuple[str, ...]] = {
    "P-SSE-1": (
        "server/events/test_stream.py::test_a_stream_goes_on_from_a_position",
        "server/events/test_stream.py::test_what_the_body_names_is_known_is_left_out",
        "server/events/test_stream.py::test_the_head_forbids_to_keep_to_compress_and_to_hold_back",
        "server/events/test_stream.py::test_a_bad_request_is_answered_as_any",
        "processes/test_nginx.py::test_events_pass_nginx_at_once_and_as_they_are",
    ),
    "P-SSE-2": (
        "server/events/test_stream.py::test_a_stream_lists_what_there_is_then_pushes_and_certifies",
        "server/events/test_stream.py::test_deletions_that_are_forgotten_are_swept",
        "server/events/test_stream.py::test_all_streams_share_the_bytes_of_a_change",
        "testing/test_event_reader.py::test_what_a_listing_does_not_name_is_gone",
    ),
    "P-SSE-3": (
        "testing/test_event_reader.py::test_the_age_counts_from_the_sending_however_late_events_come",
        "testing/test_event_reader.py::test_an_age_of_the_future_certifies_nothing",
        "simulation/test_schedule_streams.py::test_a_relay_that_holds_bytes_back_makes_ages_large_and_none_too_young",
        "simulation/test_schedule_streams.py::test_both_clocks_may_be_wrong_by_one_per_cent",
        "simulation/test_schedule_streams.py::test_in_random_schedules_no_listener_is_told_an_age_that_is_too_young",
    ),
    "P-SSE-4": (
        "server/events/test_stream.py::test_nothing_that_changes_is_told_within_ten_seconds",
        "server/events/test_stream.py::test_ids_come_with_positions_alone",
        "testing/test_event_reader.py::test_a_stream_that_ends_behind_a_reset_is_followed_by_a_listing",
        "server/events/test_stream.py::test_while_the_store_is_down_the_path_lives_and_ages_grow",
        "server/events/test_stream.py::test_a_lease_that_lost_a_name_certifies_nothing_and_the_stream_goes_on_anew",
    ),
    "P-SSE-5": (
        "server/events/test_stream.py::test_a_stream_lives_two_minutes_and_ends_with_a_word",
        "server/events/test_stream.py::test_another_history_is_told_and_listed",
        "simulation/test_schedule_streams.py::test_streams_go_on_at_another_node_when_one_crashes",
        "server/events/test_stream.py::test_a_stream_that_is_left_leaves_nothing",
    ),
    "P-SSE-6": ("server/events/test_stream.py::test_a_slow_client_is_told_to_go_on_elsewhere",),
    "P-SSE-7": (
        "server/events/test_stream.py::test_streams_at_the_limit_and_one_over",
        "server/events/test_stream.py::test_a_node_that_drains_sends_its_streams_away",
        "server/events/test_stream.py::test_a_store_that_is_down_at_first_is_no_end_for_a_browser",
    ),
    "P-SSE-8": (
        "server/events/test_stream.py::test_who_may_read_nothing_of_it_gets_no_stream",
        "server/events/test_stream.py::test_names_that_are_lost_are_told_within_a_renewal",
        "server/events/test_stream.py::test_the_end_of_the_credentials_is_that_of_the_stream",
        "server/events/test_stream.py::test_a_revocation_ends_a_stream_ahead_of_what_comes_with_it",
    ),
}
