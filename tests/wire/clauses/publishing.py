"""P-PUB: publishing."""

PUBLISHING: dict[str, tuple[str, ...]] = {
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
}
