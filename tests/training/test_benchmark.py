import json
import subprocess
import sys

import pytest

from tests.training import runs
from training.benchmark import contestant, rows


def test_results_are_medians_of_what_the_contestants_measured():
    row = rows.Row("a / b", "a", "b", most=0.5)
    result = rows._result(row, {"a": [1.0, 2.0, 9.0], "b": [4.0, 4.0, 5.0, 6.0]})
    assert (result.ours, result.other) == (2.0, 4.5)
    assert result.ratio == pytest.approx(2 / 4.5)
    assert result.ours_spread == (1.5, 5.5)
    assert result.reached
    assert "| a / b | 2000 (1500 to 5500) | 4500 (4000 to 5250) | 0.44 | at most 0.5: yes |" in rows.table(
        {"x": result}
    )


def test_seconds_between_ends():
    assert contestant.differences([1.0, 1.5, 4.0]) == [0.5, 2.5]


@pytest.mark.slow
def test_a_contestant_that_fails_says_why():
    with pytest.raises(RuntimeError, match="nobody"), contestant.Process("ours", "nobody"):
        pass


@pytest.mark.slow
def test_rows_run_alone(tmp_path, shared_data):
    """Both Keras versions, first and later steps, and the input pipeline; small batches, so no figure means much."""
    command = [sys.executable, "-m", "training.benchmark", "--rows=qat_step,qat_first_step,input"]
    command += ["--rounds=1", "--steps=2", "--batch_size=2", f"--data_dir={shared_data / 'train'}"]
    command += [f"--json={tmp_path / 'figures.json'}"]
    process = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr[-3000:]
    found = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert found.keys() == {"qat_step", "qat_first_step", "input"}
    for row in found.values():
        assert row["ours"] > 0
        assert row["ratio"] == pytest.approx(row["ours"] / row["other"])
    assert found["qat_first_step"]["ours"] > found["qat_step"]["ours"]
