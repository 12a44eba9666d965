import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from stages import download

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params_file(tmp_path: Path) -> Callable[..., Path]:
    """The project's params with other values in the `data` section."""

    def write(**data: Any) -> Path:
        values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        values["data"] |= data
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    return write


def test_digits_need_no_network(tmp_path: Path, params_file: Callable[..., Path]) -> None:
    download.main(tmp_path / "raw", params_file(folder=str(tmp_path / "own"), source="digits"))
    (raw,) = (tmp_path / "raw").iterdir()
    assert np.array_equal(LabeledImages.load(raw).images[:, 0], load_digits().images)


def test_own_images_are_packed_at_the_wanted_size(
    tmp_path: Path, params_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for n in range(3):
            Image.new("RGB", (40, 30), (n * 80, 0, 9)).save(tmp_path / "own" / name / f"{n}.jpg")
    download.main(tmp_path / "raw", params_file(folder=str(tmp_path / "own"), source="folder", image_size=16))
    (raw,) = (tmp_path / "raw").iterdir()
    assert LabeledImages.load(raw).images.shape == (6, 3, 16, 16)
    out = capsys.readouterr().out
    assert "6 train images, no test split of its own; 2 classes: cat 3, dog 3" in out
    assert "all 6 images have colour: three channels" in out


def test_a_mirror_without_the_right_bytes_is_refused(
    tmp_path: Path, params_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, _ in datasets.MNIST.resources:
        (mirror / name).write_bytes(b"not what was published")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [])
    monkeypatch.delenv("SYNTHGAIN_MIRROR", raising=False)
    with pytest.raises(
        SynthGainError, match=f"{mirror}: altered or truncated .md5 expected f68b3c2dcbeaaa9f"
    ):
        download.main(
            tmp_path / "raw", params_file(folder=str(tmp_path / "own"), source="mnist", mirrors=[str(mirror)])
        )
    assert list((tmp_path / "raw").iterdir()) == []


def test_bad_input_ends_in_clear_lines_and_status_one(
    tmp_path: Path, params_file: Callable[..., Path]
) -> None:
    (tmp_path / "own" / "cat").mkdir(parents=True)
    command = [sys.executable, "-m", "stages.download"]
    command += [
        "--out",
        str(tmp_path / "raw"),
        "--params",
        str(params_file(source="folder", folder=str(tmp_path / "own"))),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: {tmp_path / 'own'}: 1 problem; nothing was packed",
        "error:   cat: no image in this class folder",
    ]
