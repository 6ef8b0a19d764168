"""Progress bars of a bank, drawn or switched off."""

import pytest
from tqdm import tqdm

from tsp.experiments.progress import bars
from tsp.experiments.sweep import Job
from tsp.training.spec import RunSpec
from tsp.training.trainer import Progress

JOB = Job(RunSpec(model="tiny-llama", epochs=9), [], "0" * 16)


@pytest.mark.parametrize("off", [False, True])
def test_a_bank_that_goes_on_says_so_once_and_no_other_does(off, monkeypatch, capsys):
    class Bar(tqdm):  # whatever TQDM_DISABLE is
        def __init__(self, *args, **options):
            super().__init__(*args, **options, disable=off)

    monkeypatch.setattr("tsp.experiments.progress.tqdm", Bar)
    events = bars()
    for epochs in (range(1, 10), range(5, 10)):  # a bank of the same number comes again
        events.begin([JOB], 1, 1, 0)
        for epoch in epochs:
            events.progress(Progress(epoch, 9, 0.5, 0, 1, bank=1))
        events.stored(1)
    text = capsys.readouterr().err
    assert text.count("resumes") == text.count("bank 1 resumes after epoch 5") == 1
    assert ("loss 0.500" in text) != off
