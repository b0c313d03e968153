"""core/formats/text: bare text in ``data:``, and marks that no text can be taken for."""

from __future__ import annotations

import pytest

from sseproxy.core.formats import Text
from sseproxy.core.sse import DONE, FLUSH, PING, Event

from .streams import BROKEN, USAGE, canonical, read, rendered, shown, written


def test_text_arrives_piece_by_piece_and_then_the_end() -> None:
    assert shown(Text(), canonical(["Hel", "lo", " you"])) == ["Hel", "lo", " you", "[DONE]"]


def test_bytes_on_the_wire_are_one_block_per_piece() -> None:
    assert written(Text(), canonical(["Hi", " you"])) == b"data: Hi\n\ndata:  you\n\ndata: [DONE]\n\n"


def test_role_finish_usage_and_empty_pieces_are_not_sent() -> None:
    assert shown(Text(), canonical(["", "a", ""], usage=USAGE)) == ["a", "[DONE]"]


def test_only_the_first_choice_is_read() -> None:
    other = b'{"choices":[{"index":1,"delta":{"content":"other"}}]}'

    assert shown(Text(), [Event(other), Event(DONE)]) == ["[DONE]"]


@pytest.mark.parametrize("text", ["a\nb", "\n", "\n\n", "a\n", "a\n\n", "\na", " \n ", " leading", "trailing "])
def test_line_ends_and_blanks_survive_as_several_data_lines(text: str) -> None:
    assert shown(Text(), canonical([text])) == [text, "[DONE]"]


@pytest.mark.parametrize(("text", "read_as"), [("a\r\nb", "a\nb"), ("a\rb", "a\nb"), ("a\r\r\nb", "a\n\nb")])
def test_every_line_end_is_one_line_end(text: str, read_as: str) -> None:
    assert shown(Text(), canonical([text])) == [read_as, "[DONE]"]


@pytest.mark.parametrize("newline", ["", "[ENTRY]"])
def test_a_line_end_cut_in_two_is_one(newline: str) -> None:
    events = shown(Text(newline=newline), canonical(["a\r", "\nb", "\r", "\n", "\nc"]))

    assert "".join(events[:-1]).replace("[ENTRY]", "\n") == "a\nb\n\nc"


def test_a_line_end_can_be_a_mark_in_an_event_of_its_own() -> None:
    events = shown(Text(newline="[ENTRY]"), canonical(["a\nb\r\n", "\rc"]))

    assert events == ["a", "[ENTRY]", "b", "[ENTRY]", "[ENTRY]", "c", "[DONE]"]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("[DONE]", ["[", "DONE]"]),
        ("say [DONE] or [ERROR] x", ["say [", "DONE] or [", "ERROR] x"]),
        ("[DONE][DONE]", ["[", "DONE][", "DONE]"]),
        ("[ENTRY]", ["[", "ENTRY]"]),
        ("key: data: x", ["key: d", "ata: x"]),
    ],
)
def test_text_that_looks_like_a_mark_is_cut_inside_it(text: str, events: list[str]) -> None:
    assert shown(Text(newline="[ENTRY]"), canonical([text])) == [*events, "[DONE]"]


def test_marks_that_overlap_themselves_are_cut_too() -> None:
    events = shown(Text(newline="||"), canonical(["a|||b\n|"]))

    assert events == ["a|", "|", "|b", "||", "|", "[DONE]"]


def test_a_failure_is_told_in_one_line_and_nothing_follows() -> None:
    assert shown(Text(), canonical(["a"], error=BROKEN)) == ["a", "[ERROR] out of memory"]


def test_a_mark_without_room_for_the_reason_is_sent_exactly() -> None:
    assert shown(Text(error="<ERR>"), canonical(["a<ERR>"], error=BROKEN)) == ["a<", "ERR>", "<ERR>"]


def test_names_go_to_clients_that_understand_them_and_only_to_them() -> None:
    format = Text(event="delta", newline="[ENTRY]")

    assert read(written(format, canonical(["a\n[DONE]"]), named=True)) == [
        ("delta", "a"),
        ("delta", "[ENTRY]"),
        ("delta", "["),
        ("delta", "DONE]"),
        ("delta", "[DONE]"),
    ]
    assert read(written(format, canonical(["a"]))) == [("message", "a"), ("message", "[DONE]")]


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    assert shown(Text(), canonical(["a\ud83d", "b", "\ud83d", "\ude00", "\ude00"])) == [
        "a",
        "\ufffdb",
        "😀",
        "\ufffd",
        "[DONE]",
    ]


def test_a_chunk_with_a_lone_surrogate_that_nobody_repaired_is_read_too() -> None:
    chunk = b'{"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}'

    assert shown(Text(), [Event(chunk)]) == ["a\ufffd"]


def test_what_is_no_chunk_says_nothing() -> None:
    assert shown(Text(), [Event(b"{"), Event(b"[]"), Event(b'{"choices":[{"delta":{"content":5}}]}')]) == []


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\u200b", "\x00", "\x0b", "\ufeff"])
def test_other_characters_that_some_call_line_ends_pass(character: str) -> None:
    assert shown(Text(), canonical([f"a{character}b", character])) == [f"a{character}b", character, "[DONE]"]


def test_flushes_pass_at_once() -> None:
    events = Text().render(iter([FLUSH, Event(b'{"choices":[{"delta":{"content":"a"}}]}'), FLUSH]), named=False)

    assert next(events) is FLUSH
    assert next(events).data == b"a"
    assert next(events) is FLUSH


def test_events_still_say_what_they_mean() -> None:
    events = rendered(Text(newline="[ENTRY]"), canonical(["a\n"], usage=USAGE))

    assert [event.content for event in events] == ["a", "\n", ""]
    assert events[-1].usage is not None and events[-1].usage.output_tokens == 4
    failed = rendered(Text(), canonical(["a"], error=BROKEN))
    assert [event.error is not None for event in failed] == [False, True]


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"newline": "|"}, "newline needs at least two characters, to be told from text"),
        ({"done": ""}, "done needs at least two characters"),
        ({"error": "{message}"}, "error needs at least two characters beside {message}"),
        ({"done": "a\nb"}, "done must be one line"),
        ({"error": "[E]\n{message}"}, "error must be one line"),
        ({"newline": "\\n\ud83d"}, "newline must be one line of printable characters"),
        ({"newline": "[DONE]"}, "must differ"),
        ({"error": "[DONE]"}, "must differ"),
        ({"event": "a\nb"}, "the name of an event is one line"),
        ({"event": "error"}, "an event named error would be taken for EventSource's own"),
    ],
)
def test_marks_that_do_not_work_are_refused(marks: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        Text(**marks)


def test_it_is_an_event_stream_with_keep_alives() -> None:
    assert (Text().content_type, Text().events, Text().ping) == ("text/event-stream; charset=utf-8", True, PING)
