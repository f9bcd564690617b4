"""P-KNOW: what moves knowledge."""

KNOWLEDGE: dict[str, tuple[str, ...]] = {
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
}
