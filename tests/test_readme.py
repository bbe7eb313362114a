"""What the README shows in Python runs as it stands, with the shipped model."""

import re
from pathlib import Path

import pytest
from tiny import tiny_scan

from nirvana_mri.io.save import load_volume


def test_the_python_examples_run(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (project_root / "README.md").read_text(), flags=re.M | re.S)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    tiny_scan(112, 112, out=Path("scan.h5"))
    exec(compile(blocks[0], "README.md", "exec"), {})
    assert "ssim=" in capsys.readouterr().out
    assert load_volume("recon.h5").provenance["model"] == "nano"
    made: dict = {}
    exec(compile(blocks[1], "README.md", "exec"), made)
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert made["output"].logits.shape == (1, 2, 8192)
    assert made["cache"].tokens == 402
    exec(compile(blocks[2], "README.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) > 10
