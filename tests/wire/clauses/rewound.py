"""P-REW: rewound stores."""

REWOUND: dict[str, tuple[str, ...]] = {
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
}
