"""Runs in one file: everything comes back, nothing is overwritten, damage is found."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from tsp.cli.main import app
from tsp.errors import InputError
from tsp.store.archive import DamagedPack, pack_ids, read_packed, write_pack
from tsp.store.locks import claimed
from tsp.store.runs import DamagedRun, Store

TABLES = ("epochs", "checks", "topology", "diagrams")


@pytest.fixture
def packed(smoke, tmp_path):
    """A pack of all smoke runs, and a store that holds nothing else."""
    store = Store(tmp_path / "published")
    path = store.root / "smoke.parquet"
    write_pack([run.apart() for run in smoke.sound()[0]], path)
    return path, store


def call(*arguments):
    return CliRunner().invoke(app, [str(it) for it in arguments])


def refused(out):
    """Whether a command was refused for its input."""
    return isinstance(out.exception, InputError)


def equal(one, other):
    """Two frames with the same columns and numbers."""
    assert list(one.columns) == list(other.columns)
    return one.equals(other)


def test_a_pack_is_read_as_the_folders_are(smoke, packed):
    path, store = packed
    assert store.ids() == smoke.ids() == sorted(pack_ids(path))
    assert store.frame().equals(smoke.frame())
    assert store.sound()[1] == {}
    for run_id in smoke.ids():
        mine, theirs = store.read(run_id), smoke.read(run_id)
        assert mine.spec == theirs.spec
        assert mine.prompt_epochs == theirs.prompt_epochs
        for name in TABLES:
            assert equal(getattr(mine, name), getattr(theirs, name))
        for epoch in mine.prompt_epochs:
            assert torch.equal(mine.prompt(epoch), theirs.prompt(epoch))


def test_unpacked_runs_are_the_same_again_and_verify(smoke, packed, tmp_path):
    path, _ = packed
    here = Store(tmp_path / "here")
    added, present, damaged = here.unpack(path)
    assert (sorted(added), present, damaged) == (smoke.ids(), [], {})
    for run_id in smoke.ids():
        assert here.verify(run_id) is None
        for name in TABLES:
            assert equal(getattr(here.read(run_id), name), getattr(smoke.read(run_id), name))
        sealed = {"files", "checksum"}
        mine, theirs = (it.read(run_id).record for it in (here, smoke))
        assert {k: mine[k] for k in mine if k not in sealed} == {
            k: theirs[k] for k in theirs if k not in sealed
        }
    again = tmp_path / "again.parquet"
    write_pack([run.apart() for run in here.sound()[0]], again)
    assert pq.read_table(again).equals(pq.read_table(path))


def test_nothing_that_is_there_is_overwritten(smoke, packed, tmp_path):
    path, _ = packed
    here = Store(tmp_path / "here")
    first = smoke.ids()[0]
    shutil.copytree(smoke.root / first, here.root / first)
    (here.root / first / "mine.txt").write_text("a note")
    added, present, _ = here.unpack(path)
    assert present == [first]
    assert first not in added
    assert (here.root / first / "mine.txt").read_text() == "a note"
    assert here.unpack(path)[0] == []


def test_a_run_that_another_process_is_at_is_named_and_added_later(smoke, packed, tmp_path):
    path, _ = packed
    here, first = Store(tmp_path / "here"), smoke.ids()[0]
    half = here.root / f".{first}-abcd1234"  # a killed unpacking's
    half.mkdir(parents=True)
    with claimed(here.root, [first]):
        half.mkdir()
        added, present, wrong = here.unpack(path)
        assert wrong == {first: f"run {first}: another process is at it; try again"}
        assert present == []
        assert sorted([*added, first]) == smoke.ids()
        assert half.is_dir()
    assert here.unpack(path) == ([first], added, {})
    assert not any(it.name.startswith(".") for it in here.root.iterdir())


def test_a_folder_comes_before_a_pack(smoke, packed):
    store = packed[1]
    first = smoke.ids()[0]
    shutil.copytree(smoke.root / first, store.root / first)
    assert store.read(first).parts is None
    assert store.read(smoke.ids()[1]).parts is not None
    assert store.ids() == smoke.ids()


def changed(path, run_id, column, value):
    """Write a pack with another value in one place."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    row = next(it for it in rows if it["id"] == run_id)
    row[column] = value(row[column])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def flipped(prompts):
    values = bytearray(prompts[0]["values"])
    values[5] ^= 1
    return [prompts[0] | {"values": bytes(values)}, *prompts[1:]]


def other_number(rows):
    return [rows[0] | {"ce": rows[0]["ce"] + 1e-9}, *rows[1:]]


def other_seed(record):
    told = json.loads(record)
    told["spec"]["seed"] += 1
    return json.dumps(told)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("epochs", other_number),
        ("epochs", lambda rows: rows[1:]),
        ("checks", lambda rows: None),
        ("topology", lambda rows: rows[::-1]),
        ("prompts", flipped),
        ("prompts", lambda rows: []),
        ("record", other_seed),
        ("record", lambda record: "{}"),
        ("record", lambda record: "no JSON"),
    ],
)
def test_what_was_changed_is_found(column, value, smoke, packed, tmp_path):
    path, store = packed
    first = smoke.ids()[0]
    changed(path, first, column, value)
    assert first in store.verify(first)
    with pytest.raises(DamagedRun, match=first):
        store.read(first)
    assert list(store.sound()[1]) == [first]
    added, _, damaged = Store(tmp_path / "here").unpack(path)
    assert list(damaged) == [first]
    assert len(added) == len(smoke.ids()) - 1


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1PAR1"])
def test_what_is_no_pack_is_told_apart(content, tmp_path):
    path = tmp_path / "some.parquet"
    path.write_bytes(content)
    with pytest.raises(DamagedPack, match=r"some\.parquet"):
        pack_ids(path)
    store = Store(tmp_path)
    assert store.ids() == []
    assert list(store.sound()[1]) == ["some.parquet"]
    assert call("runs", "verify", "--runs", tmp_path).exit_code == 1
    assert refused(call("runs", "unpack", path, "--runs", tmp_path / "here"))


def test_another_table_is_no_pack(tmp_path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"id": ["a"], "x": [1.0]}), path)
    with pytest.raises(DamagedPack, match="no pack"):
        pack_ids(path)


def test_an_id_cannot_lead_out_of_the_store(smoke, packed, tmp_path):
    path, _ = packed
    first = smoke.ids()[0]
    changed(path, first, "id", lambda _: "../../outside")
    store = packed[1]
    assert store.ids() == smoke.ids()[1:]
    assert "../../outside" not in store
    assert store.sound()[1] == {path.name: f"{path.name}: '../../outside' is no id of a run"}
    added, _, damaged = Store(tmp_path / "deep" / "here").unpack(path)
    assert list(damaged) == ["../../outside"]
    assert len(added) == len(smoke.ids()) - 1
    assert not (tmp_path / "outside").exists()


def test_published_runs_are_small_and_say_what_they_lack(smoke):
    parts = smoke.read(smoke.ids()[0]).apart()
    kept, bare = parts.published(prompts=True), parts.published(prompts=False)
    assert kept.record["omitted"] == []
    assert {it.dtype for it in kept.prompts.values()} == {torch.float16}
    assert bare.record["omitted"] == ["prompts"]
    assert not bare.prompts
    ours, theirs = kept.tables["epochs"].to_pandas(), parts.tables["epochs"].to_pandas()
    assert ours.ce.to_numpy() == pytest.approx(theirs.ce.to_numpy(), rel=1e-6)
    assert ours.epoch.equals(theirs.epoch)


def test_an_experiment_is_packed_by_its_name(tmp_path):
    from tests.handmade import stored

    store = Store(tmp_path / "runs")
    arms = [{}, {"method": "tsloss", "lambda_ts": 0.1}, {"method": "tsloss", "lambda_ts": 0.3}]
    ids = [stored(store, seed=5, **arm) for arm in arms]
    out = call(
        "runs", "pack", tmp_path / "t4.parquet", "--runs", store.root, "--experiment", "table4"
    )
    assert out.exit_code == 0, out.output
    assert sorted(pack_ids(tmp_path / "t4.parquet")) == sorted(ids[:2])
    for name, told in (("mine", "experiment = "), ("embed-scale", "nothing to pack")):
        call_it = ["runs", "pack", tmp_path / "x.parquet", "--runs", store.root]
        out = call(*call_it, "--experiment", name, "--run", ids[2])
        assert told in str(out.exception)
        assert not (tmp_path / "x.parquet").exists()


def test_texts_of_others_are_not_published(smoke, tmp_path):
    """A problem that is not shipped keeps its source, row, hash and numbers of tokens."""
    parts = smoke.read(smoke.ids()[0]).apart()
    problems = [it | {"source": "local"} for it in parts.record["problems"]]
    parts = type(parts)(parts.record | {"problems": problems}, parts.tables, parts.prompts)
    path = tmp_path / "published.parquet"
    write_pack([parts.published(prompts=True)], path)
    run = Store(tmp_path).read(smoke.ids()[0])
    assert run.record["omitted"] == ["texts of the problems", "decoded answers"]
    (problem,) = run.record["problems"]
    assert set(problem) == {"source", "row", "sha256", "tokens"}
    assert set(run.checks) >= {"epoch", "problem", "correct", "matched_tokens"}
    assert "answer" not in run.checks
    text = pq.read_table(path).to_pylist()
    for told in (parts.record["problems"][0]["question"], parts.record["problems"][0]["target"]):
        assert json.dumps(told)[1:-1] not in str(text)


def test_runs_go_to_another_host_and_back(smoke, tmp_path):
    """`tsp runs pack` there, `tsp runs unpack` here; a pack without topology gets it here."""
    file, here = tmp_path / "away" / "runs.parquet", tmp_path / "here"
    out = call("runs", "pack", file, "--runs", smoke.root)
    assert out.exit_code == 0, out.output
    out = call("runs", "unpack", file, "--runs", here)
    assert out.exit_code == 0, out.output
    assert f"{len(smoke.ids())} runs added" in out.output
    assert Store(here).frame().equals(smoke.frame())
    assert call("runs", "verify", "--runs", here).exit_code == 0


def test_a_run_without_topology_is_analysed_when_it_is_published(smoke):
    run = smoke.read(smoke.ids()[0])
    files = {k: v for k, v in run.record["files"].items() if "topology" not in k and "dia" not in k}
    bare = type(run)(run.id, run.folder, run.record | {"files": files})
    assert set(bare.apart().tables) == {"epochs", "checks"}
    found = bare.apart(analysed=True).tables["topology"].to_pandas()
    wanted = run.topology[run.topology.epoch.isin(run.prompt_epochs)].reset_index(drop=True)
    assert found.h1_count.equals(wanted.h1_count)


def test_a_pack_is_not_replaced_by_one_that_lacks_some_of_it(smoke, tmp_path):
    file = tmp_path / "runs.parquet"
    call("runs", "pack", file, "--runs", smoke.root)
    before = file.read_bytes()
    out = call("runs", "pack", file, "--runs", smoke.root, "--run", smoke.ids()[0])
    assert refused(out)
    assert file.read_bytes() == before
    other = tmp_path / "notes.parquet"
    other.write_text("mine")
    assert refused(call("runs", "pack", other, "--runs", smoke.root))
    assert other.read_text() == "mine"


def test_what_another_published_pack_holds_is_left_out(smoke, tmp_path):
    first, rest = smoke.ids()[0], smoke.ids()[1:]
    call("runs", "pack", tmp_path / "a.parquet", "--runs", smoke.root, "--run", first, "--publish")
    out = call("runs", "pack", tmp_path / "b.parquet", "--runs", smoke.root, "--publish")
    assert out.exit_code == 0, out.output
    assert sorted(pack_ids(tmp_path / "b.parquet")) == rest
    again = call("runs", "pack", tmp_path / "b.parquet", "--runs", smoke.root, "--publish")
    assert again.exit_code == 0, again.output
    assert Store(tmp_path).ids() == smoke.ids()


def test_there_must_be_something_to_pack(tmp_path):
    (tmp_path / "empty").mkdir()
    out = call("runs", "pack", tmp_path / "x.parquet", "--runs", tmp_path / "empty")
    assert refused(out)
    assert not (tmp_path / "x.parquet").exists()


def test_a_half_written_pack_is_no_pack(smoke, tmp_path, monkeypatch):
    path = tmp_path / "runs.parquet"
    write_pack([smoke.read(smoke.ids()[0]).apart()], path)
    before = path.read_bytes()

    def fails(table, where, **told):
        where.write_bytes(b"PAR1")
        raise OSError("disk full")

    monkeypatch.setattr("tsp.store.archive.pq.write_table", fails)
    with pytest.raises(OSError, match="disk full"):
        write_pack([smoke.read(smoke.ids()[1]).apart()], path)
    assert path.read_bytes() == before
    assert [it.name for it in tmp_path.iterdir()] == ["runs.parquet"]
    assert read_packed(path, smoke.ids()[0])
