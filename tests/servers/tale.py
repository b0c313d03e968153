"""A tiny Llama that knows one tale by heart, for transformers or as a GGUF file. Runs in the servers' own Python.

    python tale.py DIRECTORY (transformers) | python tale.py FILE.gguf (llama.cpp)

Its one layer adds nothing, so each token alone decides the next: `SAYS` is a table, greedy generation follows it, and
what comes of a request is known. Prompts are told apart by their last token, which the chat template picks. Nothing of
sseproxy may be imported here.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np

CONTEXT = 4096
WIDTH = 128
SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<|endless|>", "<|call|>", "<|muse|>")
MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
"""Tokens of their own that are text, not special: a server that does not look for them shows them."""

DRAGON = [bytes([byte]) for byte in "🐉".encode()]
TALE = [
    "Once",
    " upon",
    " a",
    " time",
    " some",
    " dragon",
    " (",
    *DRAGON,
    ")",
    " dr",
    "ank",
    " t",
    "ea",
    ".\n",
    "The",
    " e",
    "nd",
    ".",
]
ENDLESS = [" and", " then", " it", " rained"]
CALL = ["<tool_call>", '{"name": ', '"weather"', ', "arguments": ', '{"city": ', '"Ky', 'oto"}', "}", "</tool_call>"]
MUSE = ["<think>", "Which", " tale", "?", "</think>"]

TEMPLATE = """
{%- for message in messages -%}
{{- '<|user|>' + message.role + ': ' -}}
{%- if message.content -%}{{- message.content -}}{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- set last = messages[-1].content or '' -%}
{%- if tools and messages[-1].role != 'tool' -%}<|call|>
{%- elif 'forever' in last -%}<|endless|>
{%- elif 'think' in last -%}<|muse|>
{%- else -%}<|assistant|>{%- endif -%}
"""

RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": ["<|assistant|>", "<|endless|>", "<|call|>", "<|muse|>"],
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open": "<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": "<|end|>", "content": "text"},
    },
}
"""What transformers serve finds tool calls and reasoning by."""


def tokens() -> list[str]:
    """The vocabulary, spelled as byte-level BPE does (a space is Ġ); a token's number is its place."""
    letters = [_BYTES[byte] for byte in range(256)]
    words = [_spell(piece) for saying in (TALE, ENDLESS, CALL, MUSE) for piece in saying if piece not in MARKS]
    return list(dict.fromkeys([*SPECIAL, *MARKS, *letters, "th", *words]))


def says(names: list[str]) -> dict[int, int]:
    """Which token follows which. What is in none of the sayings is never the last of a prompt."""
    number = {name: at for at, name in enumerate(names)}
    sayings = [
        ["<|assistant|>", *TALE, "<|end|>"],
        ["<|endless|>", *ENDLESS, ENDLESS[0]],
        ["<|call|>", *CALL, "<|end|>"],
        ["<|muse|>", *MUSE, TALE[0]],
    ]
    table: dict[int, int] = {}
    for saying in sayings:
        numbers = [number[piece if piece in number else _spell(piece)] for piece in saying]
        table |= dict(itertools.pairwise(numbers))
    return table


def weights(names: list[str]) -> dict[str, np.ndarray]:
    """Random embeddings are nearly orthogonal: a token's output row is the sum of the embeddings it may follow."""
    chance = np.random.default_rng(1)
    embeddings = chance.choice([-1.0, 1.0], (len(names), WIDTH)).astype(np.float32)
    output = np.zeros_like(embeddings)
    for token, following in says(names).items():
        output[following] += embeddings[token] * 0.1
    square, nothing = np.zeros((WIDTH, WIDTH), np.float32), np.ones(WIDTH, np.float32)
    layer = dict.fromkeys(("q", "k", "v", "o", "gate", "up", "down"), square)
    return {"embeddings": embeddings, "output": output, "norm": nothing, **layer}


def write_transformers(directory: Path) -> None:
    """The files that ``AutoModelForCausalLM.from_pretrained`` reads."""
    from safetensors.numpy import save_file

    names, parts = tokens(), weights(tokens())
    directory.mkdir(parents=True)
    attention = {f"model.layers.0.self_attn.{name}_proj.weight": parts[name].copy() for name in "qkvo"}
    mlp = {f"model.layers.0.mlp.{name}_proj.weight": parts[name].copy() for name in ("gate", "up", "down")}
    norms = ("model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm", "model.norm")
    tensors = {"model.embed_tokens.weight": parts["embeddings"], "lm_head.weight": parts["output"], **attention, **mlp}
    tensors |= {f"{name}.weight": parts["norm"].copy() for name in norms}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    end = names.index("<|end|>")
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": len(names), "hidden_size": WIDTH,
        "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": False, "dtype": "float32",
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
    }  # fmt: skip
    _write(directory / "config.json", config)
    _write(directory / "generation_config.json", {"eos_token_id": end, "pad_token_id": end, "do_sample": False})
    _write(directory / "tokenizer.json", _tokenizer(names))
    _write(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|end|>",
         "chat_template": TEMPLATE, "response_template": RESPONSE, "clean_up_tokenization_spaces": False},
    )  # fmt: skip


def write_gguf(path: Path) -> None:
    """The same as one file for llama.cpp."""
    import gguf

    names, parts = tokens(), weights(tokens())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(WIDTH // 4)
    writer.add_vocab_size(len(names))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    kinds = dict.fromkeys(SPECIAL, gguf.TokenType.CONTROL) | dict.fromkeys(MARKS, gguf.TokenType.USER_DEFINED)
    writer.add_token_types([kinds.get(name, gguf.TokenType.NORMAL) for name in names])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(names.index("<|end|>"))
    writer.add_bos_token_id(names.index("<|end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    inside = {"attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o", "ffn_gate": "gate", "ffn_up": "up",
              "ffn_down": "down", "attn_norm": "norm", "ffn_norm": "norm"}  # fmt: skip
    tensors = {f"blk.0.{name}.weight": parts[part] for name, part in inside.items()}
    tensors |= {"token_embd.weight": parts["embeddings"], "output.weight": parts["output"]}
    for name, tensor in {**tensors, "output_norm.weight": parts["norm"]}.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tokenizer(names: list[str]) -> dict[str, object]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": names.index(name), "content": name, "special": name in SPECIAL, **flags} for name in (*SPECIAL, *MARKS)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {name: at for at, name in enumerate(names)}, "merges": [["t", "h"]]}
    return {"version": "1.0", "added_tokens": added, "pre_tokenizer": level, "decoder": level, "model": model}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), "utf-8")


def _byte_letters() -> dict[int, str]:
    """Byte-level BPE's letter for each byte: itself if it can be seen, else one of those from U+0100 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in seen)
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + at) for at, byte in enumerate(rest)}


def _spell(piece: str | bytes) -> str:
    return "".join(_BYTES[byte] for byte in (piece if isinstance(piece, bytes) else piece.encode()))


_BYTES = _byte_letters()

if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_gguf(target) if target.suffix == ".gguf" else write_transformers(target)
