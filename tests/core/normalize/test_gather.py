"""Deltas that come in pieces are whole in the gathered message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.core.normalize import completion_of, normalize
from sseproxy.core.normalize.gather import Answer
from sseproxy.core.sse import DONE, Event


def message_of(*deltas: dict[str, Any]) -> Any:
    bodies = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    bodies.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    raw = [*(Event(json.dumps(body).encode()) for body in bodies), Event(DONE)]
    return json.loads(completion_of(normalize(iter(raw), api="chat"), "chat"))["choices"][0]["message"]


def audio_of(*pieces: str) -> Any:
    return message_of(*({"audio": {"data": piece}} for piece in pieces))["audio"]["data"]


def detail(text: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}


def test_spoken_words_and_sound_are_joined() -> None:
    message = message_of(
        {"audio": {"id": "audio_1", "transcript": "Hel"}},
        {"audio": {"transcript": "lo"}},
        {"audio": {"data": "AAAA0"}},
        {"audio": {"data": "AAAA4"}},
        {"audio": {"expires_at": 123}},
    )
    assert message["audio"] == {"id": "audio_1", "transcript": "Hello", "data": "AAAA0AAAA4", "expires_at": 123}


def test_nulls_of_later_pieces_of_audio_take_nothing_back() -> None:
    message = message_of(
        {"audio": {"id": "audio_1", "transcript": None, "data": "AAAA"}},
        {"audio": {"id": None, "transcript": "a", "data": None}},
        {"audio": {"id": None, "transcript": "b", "data": "AAAA"}},
    )
    assert message["audio"] == {"id": "audio_1", "transcript": "ab", "data": "AAAAAAAA"}


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (("YQ==", "Yg=="), "YWI="),
        (("YWI=", "YWJj", ""), "YWJhYmM="),
        (("YWJj", "YQ=="), "YWJjYQ=="),
        (("YWJjY", "Q=="), "YWJjYQ=="),
        (("YWJjYQ=", "="), "YWJjYQ=="),
        (("?=", "é"), "?=é"),
    ],
)
def test_sound_padded_in_the_middle_is_encoded_anew_where_it_is_valid(pieces: tuple[str, ...], whole: str) -> None:
    assert audio_of(*pieces) == whole


def test_data_and_transcripts_outside_audio_are_not_joined() -> None:
    message = message_of({"data": "a", "transcript": "a"}, {"data": "b", "transcript": "b"})
    assert (message["data"], message["transcript"]) == ("b", "b")


def test_images_of_several_deltas_are_all_kept() -> None:
    images = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{index}"}, "index": index}
        for index in range(3)
    ]
    assert message_of({"images": images[:1]}, {"images": images[1:]})["images"] == images
    assert message_of({"images": images[:1]}, {"images": images[:1]})["images"] == images[:1] * 2


def test_pieces_of_reasoning_that_equal_what_came_before_are_kept() -> None:
    texts = ["ha", "ha", "ha", " x"]
    message = message_of(*({"reasoning_details": [detail(text)]} for text in texts))
    assert message["reasoning_details"] == [detail(text) for text in texts]
    assert message["reasoning_content"] == "hahaha x"


def test_pieces_of_thinking_that_equal_what_came_before_are_kept() -> None:
    blocks = [{"type": "thinking", "thinking": text} for text in ("ha", "ha", "!")]
    message = message_of(*({"thinking_blocks": [block]} for block in blocks))
    assert message["thinking_blocks"] == [{**block, "index": index} for index, block in enumerate(blocks)]


def test_parts_that_equal_what_came_before_are_kept() -> None:
    other = {"type": "reference", "reference_ids": [1]}
    message = message_of(*[{"content": [{"type": "text", "text": "ha"}, other], "refusal": [{"text": "no"}]}] * 3)
    assert message["content"] == "hahaha"
    assert message["content_parts"] == [{**other, "index": index} for index in range(3)]
    assert message["refusal"] == "nonono"


@pytest.mark.parametrize("name", ["annotations", "citations"])
def test_a_list_of_sources_that_is_repeated_whole_is_kept_once(name: str) -> None:
    assert message_of({name: ["a"]}, {name: ["b"]}, {name: ["a", "b"]})[name] == ["a", "b"]
    assert message_of({name: ["a"]}, {name: ["a", "b"]}, {name: ["a", "b", "c"]})[name] == ["a", "b", "c"]


def test_entries_of_lists_are_numbered_and_kept_once_where_all_come_again() -> None:
    a, b, c = ({"type": "url_citation", "url_citation": {"url": url}} for url in "abc")
    numbered = [{**entry, "index": index} for index, entry in enumerate([a, b, c])]

    assert message_of({"annotations": [a]}, {"annotations": [b, c]})["annotations"] == numbered
    assert message_of({"annotations": []}, {"annotations": [a]}, {"annotations": [b, c]})["annotations"] == numbered
    assert message_of({"annotations": [a, b]}, {"annotations": [a, b, c]})["annotations"] == numbered
    assert message_of({"annotations": numbered[1:]}, {"annotations": ["x"]})["annotations"] == [*numbered[1:], "x"]


def test_what_came_is_not_erased_by_nothing() -> None:
    chunks = [
        {"choices": [], "citations": ["a"], "service_tier": "flex"},
        {
            "choices": [{"index": 0, "delta": {"x": {"a": 1}}, "content_filter_results": {"hate": {}}}],
            "citations": None,
        },
        {"choices": [{"index": 0, "delta": {"x": {}}, "content_filter_results": {}}], "service_tier": None},
    ]
    answer = Answer("chat")
    for each in chunks:
        answer.add(each)

    body = answer.body()

    assert (body["citations"], body["service_tier"]) == (["a"], "flex")
    assert body["choices"][0]["content_filter_results"] == {"hate": {}}
    assert body["choices"][0]["message"]["x"] == {"a": 1}


def test_pieces_of_lists_that_are_not_known_are_all_kept() -> None:
    answer = Answer("chat")
    for ids, blocks in ([5], [{"step": "a"}]), ([5], [{"sign": "b"}]), ([6], []):
        answer.add({"choices": [{"index": 0, "delta": {"steps": blocks}, "token_ids": ids}]})

    (choice,) = answer.body()["choices"]

    assert choice["token_ids"] == [5, 5, 6]
    assert choice["message"]["steps"] == [{"step": "a"}, {"sign": "b"}]


def anthropic_message_of(*bodies: dict[str, Any]) -> Any:
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5}, "container": {"id": "c"}}}
    raw = [Event(json.dumps(body).encode()) for body in (start, *bodies, {"type": "message_stop"})]
    return json.loads(completion_of(normalize(iter(raw), api="messages"), "messages"))


def test_what_a_message_holds_when_it_begins_is_its_content_unless_blocks_say_it() -> None:
    text = {"type": "text", "text": "a"}
    start = {"type": "message_start", "message": {"id": "m", "content": [text]}}

    assert anthropic_message_of(start)["content"] == [text]
    block = {"type": "content_block_start", "index": 0, "content_block": text}
    assert anthropic_message_of(start, block)["content"] == [text]


@pytest.mark.parametrize(("id", "whole"), [("n", "lo"), ("m", "Hello")])
def test_a_message_that_begins_anew_is_gathered_by_itself(id: str, whole: str) -> None:
    first, second = (
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in ("Hel", "lo")
    )
    again = {"type": "message_start", "message": {"id": id, "content": []}}
    begun = {"type": "message_start", "message": {"id": "m", "content": []}}

    message = anthropic_message_of(begun, first, again, second)

    assert message["id"] == id and [block["text"] for block in message["content"]] == [whole]


@pytest.mark.parametrize("name", ["text", "thinking"])
@pytest.mark.parametrize(("pieces", "whole"), [([], "Hel"), (["lo"], "Hello"), (["l", "o"], "Hello")])
def test_what_a_block_begins_with_is_a_part_of_it(name: str, pieces: list[str], whole: str) -> None:
    message = anthropic_message_of(
        {"type": "content_block_start", "index": 0, "content_block": {"type": name, name: "Hel"}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": f"{name}_delta", name: piece}}
            for piece in pieces
        ),
    )
    assert message["content"] == [{"type": name, name: whole}]


def test_what_stands_beside_the_delta_of_a_message_is_kept() -> None:
    message = anthropic_message_of(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 2},
            "context_management": {"applied_edits": []},
            "container": None,
            "other": None,
        }
    )
    assert message == {
        "id": "m",
        "content": [],
        "usage": {"input_tokens": 5, "output_tokens": 2},
        "stop_reason": "end_turn",
        "context_management": {"applied_edits": []},
        "container": {"id": "c"},
        "other": None,
    }


@pytest.mark.parametrize("usage", [None, 5, []])
def test_usage_that_says_nothing_takes_nothing_back(usage: Any) -> None:
    message = anthropic_message_of({"type": "message_delta", "delta": {}, "usage": usage})
    assert message["usage"] == {"input_tokens": 5, "output_tokens": 0}


@pytest.mark.parametrize("usage", ["none", 5, [1], True])
def test_usage_that_a_message_begins_with_and_that_is_no_object_gives_way(usage: Any) -> None:
    start = {"type": "message_start", "message": {"id": "m", "usage": usage}}
    message = anthropic_message_of(start, {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}})
    assert message["usage"] == {"input_tokens": 0, "output_tokens": 2}


@pytest.mark.parametrize("given", [3, [1], {"a": 1}, "{"])
def test_the_input_of_a_tool_that_is_no_text_of_json_is_kept_as_it_came(given: Any) -> None:
    message = anthropic_message_of(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": given}},
    )
    assert message["content"][0]["input"] == {"partial_json": given}


def test_citations_that_a_block_begins_with_and_that_are_no_list_give_way() -> None:
    message = anthropic_message_of(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a", "citations": 3}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"url": "u"}}},
    )
    assert message["content"][0]["citations"] == [{"url": "u"}]


class Uncopied(list[Any]):
    """A list that may grow, and no other is made of it."""

    def __add__(self, other: Any) -> Any:
        raise AssertionError("copied, with all that came before")


def test_what_grows_with_each_token_is_not_copied_with_each() -> None:
    answer = Answer("chat")
    for number in range(3):
        logprobs = {"content": Uncopied([{"token": str(number)}])}
        answer.add({"choices": [{"index": 0, "delta": {}, "token_ids": Uncopied([number]), "logprobs": logprobs}]})

    (choice,) = answer.body()["choices"]
    assert choice["token_ids"] == [0, 1, 2]
    assert [each["token"] for each in choice["logprobs"]["content"]] == ["0", "1", "2"]
