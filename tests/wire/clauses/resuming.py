"""P-RES: resuming a session."""

RESUMING: dict[str, tuple[str, ...]] = {
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
}
