"""The original FID network: clear refusals where it cannot be had, and the identity of what was loaded."""

import sys
import urllib.error

import numpy as np
import pytest
import torch

from pipeline.errors import SynthGainError
from pipeline.generative_metrics import inception
from pipeline.generative_metrics.features import Extractor
from pipeline.generative_metrics.inception import load_inception

CPU = torch.device("cpu")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "failure", [urllib.error.URLError("no route"), TimeoutError("no route"), RuntimeError("no route: hash")]
)
def test_without_weights_one_line_names_the_option_and_the_way_out(monkeypatch, hub, failure):
    def no_network(*arguments, **options):
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(SynthGainError) as caught:
        load_inception(CPU)
    message = str(caught.value)
    assert message.startswith("evaluation.features: found inception, whose weights could not be had (")
    assert "no route" in message and "set evaluation.features: domain" in message
    assert f"to {hub}/checkpoints/weights-inception-2015-12-05-6726825d.pth" in message
    assert "\n" not in message
    assert not list(hub.glob("checkpoints/*"))


def test_the_download_is_verified_by_the_hash_in_its_name(monkeypatch, hub):
    asked = {}

    def record(url, destination, hash_prefix, progress):
        asked.update(url=url, hash_prefix=hash_prefix)
        raise OSError("stop here")

    monkeypatch.setattr(torch.hub, "download_url_to_file", record)
    with pytest.raises(SynthGainError):
        load_inception(CPU)
    assert asked["hash_prefix"] == "6726825d" and asked["url"].endswith("-6726825d.pth")


def test_a_file_of_another_hash_is_not_even_unpickled(monkeypatch, hub):
    def unpickled(*arguments, **options):
        raise AssertionError("loaded")

    monkeypatch.setattr(torch, "load", unpickled)
    weights = hub / "checkpoints/weights-inception-2015-12-05-6726825d.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"half a file")
    message = r"could not be had \(the file there has the hash \w{8}…; remove it\)"
    with pytest.raises(SynthGainError, match=message):
        load_inception(CPU)


def test_without_torch_fidelity_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(SynthGainError, match=r"pip install 'synthgain\[inception\]', or set .*: domain"):
        load_inception(CPU)


@pytest.mark.slow
def test_features_are_the_networks_whatever_the_batch(monkeypatch, hub):
    """Random weights in place of the published ones: everything but the numbers of a real FID."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    with monkeypatch.context() as patch:
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.torch.load", lambda *a, **k: {})
        (hub / "checkpoints").mkdir()
        weights = hub / "checkpoints/weights-inception-2015-12-05-6726825d.pth"
        weights.write_bytes(b"weights")
        patch.setattr(inception, "file_sha256", lambda path: "6726825d" + path.name)
        features, extractor = load_inception(CPU)
    assert extractor == Extractor("inception", "6726825d" + weights.name)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28)).astype(np.uint8)
    values = features(images)
    assert values.shape == (3, 2048) and values.dtype == np.float32
    one_by_one = np.concatenate([features(images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(one_by_one, values, rtol=1e-4, atol=1e-5)
