"""After an update the code may not load the generators that are here: the doctor says so before anything is trained."""

import shutil
from pathlib import Path

from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.maintenance.generators import generators
from pipeline.params import load_params

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests/data/v0.1.0/generator.safetensors"


def test_a_generator_that_cannot_be_loaded_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = load_params(ROOT / "params.yaml")
    assert not generators(tmp_path, params).findings
    good, other, cut = (tmp_path / f"data/gan/1000/{index}/generator.safetensors" for index in range(3))
    for path in (good, other, cut):
        path.parent.mkdir(parents=True)
        shutil.copyfile(KEPT, path)
    tensors, metadata = load_checkpoint(other, kind="generator")
    metadata["arguments"]["attention"] = True
    save_checkpoint(other, tensors, metadata)
    cut.write_bytes(KEPT.read_bytes()[:1000])
    check = generators(tmp_path, params)
    assert check.seen == "3 of the declared study; the champion can be loaded, or there is none"
    lines = list(map(str, check.findings))
    assert [line.partition(":")[0] for line in lines] == [
        "data/gan/1000/1/generator.safetensors",
        "data/gan/1000/2/generator.safetensors",
    ]
    assert "not a generator of this version of SynthGain" in lines[0] and lines[0].endswith(
        "`dvc repro` trains it again"
    )
    assert str(tmp_path) not in "".join(lines) and not (tmp_path / "mlflow.db").exists()
