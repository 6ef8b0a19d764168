import pytest
import torch

from tests.conftest import spec
from tsp.errors import InputError
from tsp.training.prompts import as_input, initial_prompt, position_code


def start(frozen, **fields):
    return initial_prompt(spec(**fields), frozen, torch.Generator().manual_seed(0))


def test_gaussian_init_has_the_papers_spread(tiny):
    P = start(tiny(), n_tokens=2000)
    assert P.shape == (2000, 32)
    assert P.std().item() == pytest.approx(0.02, rel=0.02)
    assert abs(P.mean().item()) < 1e-3


def test_repeated_init_is_one_tokens_embedding(tiny):
    frozen = tiny()
    P = start(frozen, init="repeated")
    (token,) = frozen.tokenizer("x", add_special_tokens=False)["input_ids"]
    assert torch.equal(P, frozen.vocabulary[token].expand(5, -1))
    P += 1  # a copy: the model's own table is not touched
    assert not torch.equal(P[0], frozen.vocabulary[token])


def test_vocabulary_init_draws_different_tokens(tiny):
    frozen = tiny()
    P = start(frozen, init="vocabulary", n_tokens=50)
    owners = [(frozen.vocabulary == row).all(1).nonzero().flatten().tolist() for row in P]
    assert all(owners)
    assert len({owner[0] for owner in owners}) == 50
    with pytest.raises(InputError, match=r"n_tokens = 300: the vocabulary has 259"):
        start(frozen, init="vocabulary", n_tokens=300)


def test_drawn_embeddings_are_those_the_model_uses(tiny):
    frozen = tiny("tiny-gemma")  # its embeddings are scaled on the way out of the table
    P = start(frozen, init="vocabulary", n_tokens=3)
    every = frozen.embed(tuple(range(259)))
    assert all((every == row).all(1).any() for row in P)


def test_position_code_by_hand():
    code = position_code(2, 4)
    torch.testing.assert_close(code[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    told = torch.tensor([1.0, 1.0, 0.01, 0.01])
    wave = torch.stack([told[0].sin(), told[1].cos(), told[2].sin(), told[3].cos()])
    torch.testing.assert_close(code[1], wave)
    assert position_code(3, 5).shape == (3, 5)


def test_scale_and_code_are_what_the_model_receives(tiny):
    P = start(tiny())
    plain = spec(embed_scale=3.0)
    torch.testing.assert_close(as_input(P, plain), 3 * P)
    released = spec(protocol="released", init="gaussian")
    torch.testing.assert_close(as_input(P, released), P + position_code(5, 32))
