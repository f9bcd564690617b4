"""P-WIRE: messages and values."""

VALUES: dict[str, tuple[str, ...]] = {
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
        "wire/test_cbor.py::test_every_tag_is_refused_before_it_does_anything",
        "wire/test_cbor.py::test_ill_formed_or_unusual_cbor_is_refused",
    ),
    "P-WIRE-5": (
        "wire/test_json.py::test_ill_formed_json_is_refused",
        "wire/test_json.py::test_the_last_of_duplicate_json_keys_counts",
        "wire/test_json.py::test_a_second_operation_is_invalid_and_not_unknown",
        "wire/test_json.py::test_an_operation_that_comes_twice_is_one_and_an_unknown_last_one_is_unsupported",
        "wire/test_codec.py::test_longer_integers_are_refused_and_never_become_floats",
        "wire/test_codec.py::test_a_number_that_is_long_to_read_is_refused_in_a_long_message_and_others_are_exact",
    ),
    "P-WIRE-6": (
        "wire/test_json.py::test_bytes_in_json",
        "wire/test_json.py::test_malformed_bytes_in_json_are_refused",
        "wire/test_value.py::test_bytes_in_json_are_standard_base64_and_nothing_else",
    ),
    "P-WIRE-7": (
        "wire/test_value.py::test_an_accepted_value_survives_both_codecs_with_its_types",
        "wire/test_cbor.py::test_what_only_cbor_can_say_does_not_get_past_the_check_of_the_value",
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
}
