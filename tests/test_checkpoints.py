import pytest
import torch

from pipeline.checkpoints import file_sha256, load_checkpoint, save_checkpoint
from pipeline.errors import SynthGainError

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1], dtype=torch.int64)}
METADATA = {"kind": "generator", "arguments": {"z_dim": 3}, "provenance": {"seed": 1, "x": None}}


def test_save_and_load_are_inverse_and_bytes_repeat(tmp_path):
    for name in ("x", "y"):
        save_checkpoint(tmp_path / name, TENSORS, METADATA)
    tensors, metadata = load_checkpoint(tmp_path / "x", kind="generator")
    assert metadata == METADATA
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert file_sha256(tmp_path / "x") == file_sha256(tmp_path / "y")


def test_a_channels_last_tensor_comes_back_equal(tmp_path):
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "x", {"w": weight}, METADATA)
    assert torch.equal(load_checkpoint(tmp_path / "x", kind="generator")[0]["w"], weight)


def test_another_kind_is_refused_by_name(tmp_path):
    save_checkpoint(tmp_path / "x", TENSORS, METADATA)
    with pytest.raises(SynthGainError, match="holds a generator, a feature_extractor is needed"):
        load_checkpoint(tmp_path / "x", kind="feature_extractor")


@pytest.mark.parametrize("content", [b"", b"\x80\x04 pickle", b"\xff" * 100])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SynthGainError, match="x: not a readable SynthGain checkpoint"):
        load_checkpoint(tmp_path / "x", kind="generator")


def test_a_truncated_file_is_refused(tmp_path):
    save_checkpoint(tmp_path / "x", TENSORS, METADATA)
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-3])
    with pytest.raises(SynthGainError, match="not a readable SynthGain checkpoint"):
        load_checkpoint(tmp_path / "x", kind="generator")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SynthGainError, match="no such file"):
        load_checkpoint(tmp_path / "x", kind="generator")
