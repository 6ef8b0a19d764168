"""Random models of a few thousand weights, one per architecture family, and their tokenizer.

They know nothing; tests and the `smoke` profile use them because they load at once and need no
download. The weights come from a fixed seed.
"""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

_SPECIALS = ("<pad>", "<bos>", "<end>")
TINY = {
    name: "a tiny random model for tests: its answers mean nothing"
    for name in ("tiny-llama", "tiny-gemma", "tiny-gemma3", "tiny-qwen2")
}
_CHAT = (
    "{% for m in messages %}<bos>{{ m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)


def tiny_config(name: str) -> PreTrainedConfig:
    """Configuration of the tiny model ``name``; Gemma 3's window is 8 so that it matters."""
    shape: dict[str, Any] = {
        "vocab_size": 256 + len(_SPECIALS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
    if name == "tiny-gemma3":
        layers = ["sliding_attention", "full_attention"]
        return Gemma3TextConfig(**shape, head_dim=8, sliding_window=8, layer_types=layers)
    if name == "tiny-gemma":
        return GemmaConfig(**shape, head_dim=8)
    return {"tiny-llama": LlamaConfig, "tiny-qwen2": Qwen2Config}[name](**shape)


def tiny_model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Build the tiny model ``name``; the same weights every time, whatever the global seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(tiny_config(name))
    return model.to(dtype)


def tiny_tokenizer(*, chat: bool) -> Any:
    """Build a tokenizer with one token a byte, with or without a chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*_SPECIALS, *letters))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in _SPECIALS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<end>"
    )
    tokenizer.chat_template = _CHAT if chat else None
    return tokenizer
