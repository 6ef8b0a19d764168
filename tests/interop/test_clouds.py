"""`tsp analyze`: the prompts that people have, and what is wrong with other files."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.terminal import fails, loads, tsp
from tsp.interop.clouds import load_clouds
from tsp.topology.diagrams import summarize

P = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
NAN = P.clone()
NAN[3, 1] = torch.nan
LORA = {f"base.layers.{k}.q_proj.lora_A.weight": torch.zeros(2, 2) for k in range(400)}


def save(path, points):
    """Write points in the format of the file's suffix; return the file."""
    if path.suffix == ".npy":
        np.save(path, np.asarray(points))
    elif path.suffix == ".pt":
        torch.save(points, path)
    else:
        save_file(points if isinstance(points, dict) else {"x": points}, path)
    return path


def adapter(folder, tensors, **config):
    """Write an adapter as PEFT does; an empty config is left out."""
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    if config:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".pt"])
@pytest.mark.parametrize("batch", [False, True])
def test_one_cloud_in_any_format(suffix, batch, tmp_path):
    """The paper's public code saves bare half-precision tensors (1, n, d) as .pt."""
    points = P.half()[None] if batch else P
    row = loads("analyze", save(tmp_path / f"prompt{suffix}", points), "--json")
    assert (row["n_tokens"], row["dim"], len(row["diagrams"]["0"])) == (6, 3, 6)
    expected = summarize(points.double().reshape(6, 3)).iloc[0]
    assert row["h1_count"] == expected.h1_count
    assert row["persistence_entropy"] == pytest.approx(expected.persistence_entropy)


def test_bfloat16_and_a_named_tensor(tmp_path):
    tensors = {"prompt_embeddings": P.bfloat16(), "other": torch.zeros(2, 2)}
    (cloud,) = load_clouds(str(save(tmp_path / "x.safetensors", tensors)))
    np.testing.assert_array_equal(cloud.points, P.bfloat16().double())
    (cloud,) = load_clouds(str(save(tmp_path / "x.pt", {"weights": P})))
    np.testing.assert_array_equal(cloud.points, P.double())


def test_a_batch_is_a_list_of_clouds(tmp_path):
    rows = loads("analyze", save(tmp_path / "batch.npy", torch.stack([P, 2 * P])), "--json")
    assert [row["cloud"] for row in rows] == [0, 1]
    assert rows[1]["h0_mean_lifespan"] == pytest.approx(2 * rows[0]["h0_mean_lifespan"])


def test_a_folder_is_a_trajectory_in_the_natural_order_of_names(tmp_path):
    for epoch in (10, 2, 100):
        save(tmp_path / f"soft_prompt_epoch_{epoch}.pt", epoch * P[None])
    (tmp_path / "notes.txt").write_text("not a prompt")
    rows = loads("analyze", tmp_path, "--json")
    assert [row["file"].rpartition("_")[2] for row in rows] == ["2.pt", "10.pt", "100.pt"]
    done = tsp("analyze", tmp_path, "--plot", tmp_path / "curves.SVG")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert "persistence entropy" in (tmp_path / "curves.SVG").read_text()


def test_the_prompts_of_a_stored_run_are_a_trajectory(tmp_path):
    file = tmp_path / "prompts.safetensors"
    save_file({f"epoch_{epoch:04d}": (1 + epoch) * P for epoch in (20, 0)}, file)
    for place in (file, tmp_path):
        rows = loads("analyze", place, "--json")
        assert [(row["epoch"], row["file"]) for row in rows] == [(0, str(file)), (20, str(file))]
        assert rows[1]["mean_distance"] == pytest.approx(21 * rows[0]["mean_distance"])


def test_a_plot_of_one_cloud(tmp_path):
    file = save(tmp_path / "x.npy", P)
    assert tsp("analyze", file, "--plot", tmp_path / "x.png").returncode == 0
    assert (tmp_path / "x.png").read_bytes()[1:4] == b"PNG"
    fails(2, r"plot = .*x\.doc.*\.png", "analyze", file, "--plot", tmp_path / "x.doc")
    fails(2, "plot = .*no such folder", "analyze", file, "--plot", tmp_path / "no" / "x.png")


@pytest.mark.parametrize(
    ("name", "points", "message"),
    [
        ("x.pt", NAN, r"x\.pt': holds nan: give finite coordinates.* in row 3"),
        ("x.npy", torch.stack([P, NAN]), r"x\.npy': holds nan: .* in row 3 of cloud 1"),
        ("x.npy", P * torch.inf, r"holds -?inf: .* in row 0"),
        ("x.npy", P[0], r"holds \(3,\): give the shape \(n, d\) or \(B, n, d\)"),
        ("x.npy", torch.zeros(0, 3), r"holds \(0, 3\): give the shape"),
        ("x.npy", torch.zeros(4001, 1), r"holds \(4001, 1\): give at most 4000 points"),
        ("x.npy", torch.zeros(2, 2, dtype=torch.complex64), "give an array of real numbers"),
        ("x.pt", [object()], r"x\.pt': cannot be read \(it is damaged or holds other"),
        ("x.safetensors", LORA, "is a LoRA adapter; prompt tuning adapters hold"),
        ("x.safetensors", {"a": P, "b": NAN}, r"holds 2 tensors \(a, b …\); give a file with one"),
    ],
)
def test_wrong_contents_are_named(name, points, message, tmp_path):
    done = fails(2, message, "analyze", save(tmp_path / name, points))
    assert len(done.stderr) < 400


@pytest.mark.parametrize("name", ["x.npy", "x.safetensors", "x.pt"])
def test_damaged_files_are_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"no")
    fails(2, rf"file = '.*{name}': cannot be read", "analyze", tmp_path / name)


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (LORA, {"peft_type": "LORA"}, r"x': is a LoRA adapter; prompt tuning adapters"),
        (LORA, {}, "is a LoRA adapter"),
        ({"x": P}, {"peft_type": "IA3"}, "is an IA3 adapter"),
        ({"x": P}, {"peft_type": "ADALORA"}, "is an AdaLoRA adapter"),
        ({"x": P}, {}, "holds 1 tensors"),
        ({"prompt_embeddings": NAN}, {"peft_type": "P_TUNING"}, "x': holds nan: .* in row 3"),
    ],
)
def test_wrong_adapters_are_named(tensors, config, message, tmp_path):
    folder = adapter(tmp_path / "x", tensors, **config)
    assert len(fails(2, f"adapter = .*{message}", "analyze", folder).stderr) < 400


def test_weights_that_are_missing_damaged_or_pickled_are_named(tmp_path):
    folder = adapter(tmp_path / "x", LORA, peft_type="LORA")
    weights = folder / "adapter_model.safetensors"
    weights.write_text("no")
    fails(2, "is a LoRA adapter", "analyze", folder)
    (folder / "adapter_config.json").unlink()
    fails(2, "adapter = .*cannot be read", "analyze", folder)
    weights.rename(folder / "adapter_model.bin")
    fails(2, "a .bin is a pickle, which is not read", "analyze", folder)


def test_wrong_places_are_named(tmp_path):
    fails(2, r"has no adapter_model\.safetensors.* and no \.npy", "analyze", tmp_path)
    (tmp_path / "x.txt").write_text("1 2 3")
    fails(2, r"x\.txt': give a folder of a PEFT adapter, or a \.npy", "analyze", tmp_path / "x.txt")
    for long in ("x" * 400, "/".join(["x" * 400, "y"])):
        assert "Errno" not in fails(2, "no such folder", "analyze", long).stderr
