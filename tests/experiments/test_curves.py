"""Live curves: TensorBoard reads back what a run that trains has written."""

import json
import shutil
import sys

import pytest

pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import spec
from tests.terminal import BBH, TINY, fails, tsp, write
from tsp.experiments.banks import CheckpointPolicy
from tsp.experiments.curves import with_curves
from tsp.experiments.sweep import Events, ensure
from tsp.store.runs import Store


def curves(folder):
    """Return what TensorBoard reads in an event folder."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def read(folder, name):
    """Return a curve of an event folder: {epoch: value}."""
    return {event.step: event.value for event in curves(folder).Scalars(name)}


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "bbh.jsonl", json.dumps(BBH))


@pytest.fixture
def specs(data):
    fields = {"data": str(data), "epochs": 4, "check_every": 2}
    return [spec(**fields), spec(**fields, method="ce", lambda_ts=0.0)]


def test_curves_are_what_the_store_has(specs, tmp_path):
    lengths = []

    def count(now):
        lengths.append([len(read(folder, "ce")) for folder in tmp_path.glob("curves/*")])

    store, events = (
        Store(tmp_path / "runs"),
        with_curves(tmp_path / "curves", Events(progress=count)),
    )
    ids = ensure(specs, store, device="cpu", events=events)
    # Both are written while they train, and once more when the last answers are checked.
    assert lengths == [[epoch, epoch] for epoch in (1, 2, 3, 4, 4)]
    assert len(list((tmp_path / "curves").iterdir())) == 2
    for run_id, method in zip(ids, ("tsloss", "ce"), strict=True):
        (folder,) = (tmp_path / "curves").glob(f"bbh-0-{method}-*-{run_id}")
        run = store.read(run_id)
        for name in ("ce", "total", "lr", "grad_ce", *(["h0", "h1"] * (method == "tsloss"))):
            values = dict(zip(run.epochs.epoch, run.epochs[name], strict=True))
            assert read(folder, name) == pytest.approx(values, rel=1e-6), name
        right = run.checks.groupby("epoch").correct.mean().to_dict()
        assert read(folder, "correct") == right
        assert sorted(right) == [0, 2, 4]


class Killed(Exception):
    """Stands for the end of a process."""


def test_what_goes_on_has_each_epoch_once(specs, tmp_path, caplog):
    """A process is killed twice, each time three epochs after the checkpoint that is resumed."""
    longer = [one.but(epochs=12, early_stop=k == 1) for k, one in enumerate(specs)]

    def train(last):
        def progress(now):
            if now.epoch == last - 3:
                shutil.copytree(tmp_path / "runs", tmp_path / str(last))
            if now.epoch == last:
                raise Killed

        events = with_curves(tmp_path / "curves", Events(progress=progress))
        options = {"device": "cpu", "events": events, "policy": CheckpointPolicy(every=0)}
        return ensure(longer, Store(tmp_path / "runs"), **options)

    for last in (7, 9):
        with pytest.raises(Killed):
            train(last)
        for file in tmp_path.glob("curves/*/*"):  # older than a second, as their names say
            file.rename(file.with_name(file.name.replace("tfevents.", "tfevents.0")))
        shutil.rmtree(tmp_path / "runs")
        (tmp_path / str(last)).rename(tmp_path / "runs")
    ids = train(last=100)
    assert not caplog.text  # a purge is no reason for a warning
    for run_id in ids:
        (folder,) = (tmp_path / "curves").glob(f"*-{run_id}")
        assert len(list(folder.iterdir())) == 3
        run, written = Store(tmp_path / "runs").read(run_id), curves(folder)
        assert [event.step for event in written.Scalars("ce")] == run.epochs.epoch.tolist()
        checked = [event.step for event in written.Scalars("correct")]
        assert checked == sorted(set(run.checks.epoch))
        assert len(written.Tensors("spec/text_summary")) == 1


def test_the_command_line_writes_them(data, tmp_path):
    words = ["run", "--task", "bbh", "--data", data, "--runs", tmp_path / "runs", *TINY]
    done = tsp(*words, "--tensorboard", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    run_id = json.loads(done.stdout)["id"]
    (folder,) = (tmp_path / "run").iterdir()
    assert folder.name.endswith(run_id)
    assert len(read(folder, "ce")) == 2


def test_what_is_missing_is_said_before_anything_is_trained(data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    words = ["run", "--task", "bbh", "--data", data, "--runs", tmp_path / "runs", *TINY]
    fails(2, "tensorboard = '.*file': is a file", *words, "--tensorboard", tmp_path / "file")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    pattern = r"package tensorboard is missing: pip install 'tsp\[tensorboard\]'"
    fails(2, pattern, *words, "--tensorboard", tmp_path / "curves")
    assert not (tmp_path / "runs").exists()
