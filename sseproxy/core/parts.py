"""What the content of a message counts as, of whatever parts it is made. Pure; tokenizes nothing.

A part that is known by its type counts as its vendor counts it. Of any other, of which there are new ones every few
months, all texts count that are in it: a budget holds back too much for it rather than nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from sseproxy.core.files import audio_tokens, file_contents
from sseproxy.core.images import claude_image_tokens, image_tokens
from sseproxy.core.texts import Texts, an_object, as_json, may_say_much

_PER_CALL: Final = 3
#: Content that is nested deeper is counted as its JSON. A tool's result is content again; only a hostile one goes on.
_DEEPEST: Final = 24
#: By the type of a part, the field of it that counts.
_TEXTS: Final = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_IMAGES: Final = frozenset(("image_url", "input_image"))
_CALLS: Final = frozenset(("tool_use", "server_tool_use", "mcp_tool_use"))
#: Where the base64 of files stands; what is encrypted or signed is no text either.
_FILES: Final = frozenset(("data", "file_data", "encrypted_content", "signature", "url"))
#: Fields that say what something is, not what it says.
_LABELS: Final = frozenset(
    ("type", "id", "role", "status", "url", "media_type", "format", "detail", "signature", "syntax", "phase", "ttl")
)
_LABEL_ENDS: Final = ("_id", "_ids", "_url")


def add_content(content: Any, texts: Texts, model: str, depth: int = 0) -> None:
    """A text, a part or a list of them, as any of the APIs calls them."""
    if isinstance(content, str):
        texts.add(content)
    elif not isinstance(content, (list, dict)):
        return
    elif depth > _DEEPEST:
        texts.add(as_json(content))
    elif isinstance(content, dict):
        _add_part(content, texts, model, depth)
    else:
        for part in content:
            add_content(part, texts, model, depth + 1)


def add_rest(owner: Mapping[str, Any], known: Collection[str], texts: Texts, model: str, depth: int = 0) -> None:
    """All texts in the fields of an object, but for those that are known to be counted in their own way."""
    for name, value in owner.items():
        if name in known:
            continue
        if name == "image_url":
            _add_image(owner, texts, model)
        elif _is_label(name) and not may_say_much(value):
            continue
        elif name in _FILES and isinstance(value, str) and owner.get("type") != "text":
            _add_file(value, owner.get("format"), texts, model)
        else:
            add_content(value, texts, model, depth + 1)


def add_call(call: Mapping[str, Any], texts: Texts, model: str) -> None:
    """The call of a function or of any other tool."""
    texts.overhead += _PER_CALL
    add_rest(call, (), texts, model)


def _add_part(part: Mapping[str, Any], texts: Texts, model: str, depth: int) -> None:
    kind = part.get("type")
    if not isinstance(kind, str):
        kind = ""
    text = part.get(_TEXTS[kind]) if kind in _TEXTS else None
    if isinstance(text, str):
        texts.add(text)
    elif kind == "tool_result":
        add_content(part.get("content"), texts, model, depth + 1)
    elif kind in _CALLS:
        texts.overhead += _PER_CALL
        texts.add(part.get("name"), as_json(part.get("input")))
    elif kind == "image":
        data = an_object(part.get("source")).get("data")
        texts.overhead += claude_image_tokens(data if isinstance(data, str) else "")
    elif kind == "image_generation_call":
        texts.overhead += image_tokens(model, f"data:;base64,{part.get('result') or ''}")
        add_rest(part, ("result",), texts, model, depth)
    elif kind in _IMAGES:
        _add_image(part, texts, model)
    else:
        add_rest(part, (), texts, model, depth)


def _add_image(part: Mapping[str, Any], texts: Texts, model: str) -> None:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    detail = image.get("detail") if isinstance(image, dict) else part.get("detail")
    texts.overhead += image_tokens(model, url if isinstance(url, str) else "", "low" if detail == "low" else "auto")


def _add_file(data: str, sound: Any, texts: Texts, model: str) -> None:
    """A file in base64, or in a ``data:`` URL (https://www.rfc-editor.org/rfc/rfc2397).

    :param sound: the format of a recording.
    """
    if data.startswith("data:"):
        head, _, data = data.partition(",")
        group, _, kind = head.removeprefix("data:").partition(";")[0].partition("/")
        if group == "image":
            texts.overhead += image_tokens(model, f"{head},{data}")
            return
        sound = kind if group == "audio" else sound
    if isinstance(sound, str):
        texts.overhead += audio_tokens(data, sound)
    elif isinstance(contents := file_contents(data), str):
        texts.add(contents)
    else:
        texts.overhead += contents


def _is_label(name: str) -> bool:
    return name in _LABELS or name.endswith(_LABEL_ENDS)
