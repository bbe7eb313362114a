"""metrics.csv: rows as they come; a run that goes on keeps whole rows up to where it stopped."""

from pathlib import Path

from nirvana_mri.metrics_file import MetricsFile

COLUMNS = ("step", "loss", "held_out_loss")


def test_rows_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "run" / "metrics.csv", COLUMNS)
    metrics.write({"step": 1, "loss": 0.1})
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines() == ["step,loss,held_out_loss", "1,0.1,"]


def test_going_on_drops_later_and_broken_rows_and_takes_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n1,0.5\n2,0.4\n3,0.3\n1")  # the last row was cut by a kill
    MetricsFile(path, COLUMNS, first=2).write({"step": 3, "loss": 0.31, "held_out_loss": 0.2})
    assert path.read_text().splitlines() == ["step,loss,held_out_loss", "1,0.5,", "2,0.4,", "3,0.31,0.2"]


def test_beginning_anew_drops_all_and_other_processes_touch_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n1,0.5\n")
    MetricsFile(path, COLUMNS, writes=False).write({"step": 2})
    assert "0.5" in path.read_text()
    MetricsFile(path, COLUMNS)
    assert path.read_text().splitlines() == ["step,loss,held_out_loss"]
