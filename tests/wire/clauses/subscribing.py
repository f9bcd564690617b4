"""P-SUB: subscribing without a gap."""

SUBSCRIBING: dict[str, tuple[str, ...]] = {
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
}
