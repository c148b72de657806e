import runpy
from pathlib import Path

import pytest
from conftest import limited_epochs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.evidence,
    pytest.mark.filterwarnings("ignore:Labels were left as given"),  # few rows may tell so
    pytest.mark.filterwarnings("ignore:target_momentum"),  # few epochs do
]

SPAWN = {"several_processes", "ray_train"}  # processes of their own: see test_ranks.py
EXAMPLES = sorted(
    path
    for path in (Path(__file__).parent.parent / "examples").glob("*.py")
    if path.stem not in SPAWN
)
NEED_DATA = {"cifar10n"}
EPOCHS = {"search_by_trusted_rows": 8}  # it searches warmup_epochs


def run(path):
    """Run a script; one that ends with the words "Skipped: ..." skips the test, if it may."""
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        reason = str(end.code)
    else:
        return
    if path.stem in NEED_DATA and reason.startswith("Skipped: "):
        pytest.skip(reason.partition("\n")[0])
    pytest.fail(f"{path.name} stopped: {reason}")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # pictures are written where an example runs
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr("sys.argv", [str(path)])
    with limited_epochs(EPOCHS.get(path.stem, 4)):
        run(path)
    assert capsys.readouterr().out


def test_an_example_that_stops_is_no_pass(tmp_path):
    script = tmp_path / "quickstart.py"
    script.write_text("import sys; print('half'); sys.exit('Skipped: no wish')")
    with pytest.raises(pytest.fail.Exception, match="no wish"):
        run(script)
    (tmp_path / "cifar10n.py").write_text(script.read_text())
    with pytest.raises(pytest.skip.Exception, match="no wish"):
        run(tmp_path / "cifar10n.py")
