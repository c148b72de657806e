import runpy
from contextlib import suppress
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # pictures are written where an example runs
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr("sys.argv", [str(path)])
    with suppress(SystemExit):  # an example that lacks its data says so and stops
        runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
