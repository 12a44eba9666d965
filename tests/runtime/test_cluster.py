"""Real Ray nodes on this machine: the same bytes as in processes here, whatever dies meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import SynthGainError
from pipeline.runtime import cluster
from pipeline.runtime.device import Workers
from pipeline.runtime.parallel import parallel_map
from tests.gan.test_generation import TINY

ROOT = Path(__file__).parents[2]
HERE = Workers(1, 1, None)


def square(job, advance):
    return job * job


def mapped(*jobs):
    return list(parallel_map(square, jobs, workers=HERE, advance=lambda units, note="": None))


@pytest.mark.parametrize(
    "address, said",
    [
        ("here", "RAY_ADDRESS: found here; auto, or host:port of the head node is needed"),
        (
            "ray://127.0.0.1:10001",
            "RAY_ADDRESS: found ray://127.0.0.1:10001; auto, or host:port of the head node",
        ),
        (
            "127.0.0.1:9",
            "RAY_ADDRESS: found 127.0.0.1:9, where nobody answers (Connection refused); start Ray there",
        ),
    ],
)
def test_an_address_that_is_none_is_one_line(monkeypatch, address, said):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(SynthGainError) as error:
        mapped(1)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    with pytest.raises(
        SynthGainError, match=r"^RAY_ADDRESS: found .* pip install 'synthgain\[ray\]', or unset it$"
    ):
        mapped(1)


def test_without_an_address_nothing_is_asked_of_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert mapped(3) == [(3, 9)]


def test_a_machine_that_would_compute_other_bytes_says_in_what(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mark").touch()
    same = {**cluster.facts(tmp_path), "mark": "mark"}
    assert cluster.difference(same) is None
    for fact in ("torch", "CPU capability", "code", "Python"):
        said = cluster.difference({**same, fact: "another"})
        assert said is not None and said.startswith(
            f"{fact} is {same[fact]}, and where the command runs another; "
        )
    assert "into a folder that all nodes share" in cluster.difference({**same, "mark": "none"})


# Trains cells of every arm on a few random images, and prints a digest of each classifier.
CELLS = """
import json, os, sys
import numpy as np, torch
from pathlib import Path
from pipeline.checkpoints import tensors_sha256
from pipeline.classifier.replicates import train_cells
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.study.arms import ARMS
from pipeline.study.subsets import real_subsets
from pipeline.study.training_sets import ReplicateImages

def main():
    params = load_params(Path(sys.argv[1]))
    pixels = np.random.default_rng(0).integers(0, 255, (200, 1, 12, 12), dtype=np.uint8)
    train = LabeledImages(pixels, np.arange(200, dtype=np.int64) % 10, tuple("0123456789"))
    cells, _ = train_cells(
        [ARMS["real"], ARMS["real_affine_elastic"]],
        map(ReplicateImages, real_subsets(train, budget=40, replicates=range(3), seed=1, imbalance={})),
        count=3,
        synthetic_per_real=0,
        classifier=params.classifier.of_budget(40),
        augmentation=params.augmentation,
        seed=1,
        execution=params.execution,
        label="cells",
    )
    Path("digests.json").write_text(json.dumps([tensors_sha256(cell.weights) for cell in cells]))

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """The address of a head node and another one, of one CPU each, as `ray start` makes them."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    started.add_node(num_cpus=1)
    yield started.address
    ray.shutdown()
    started.shutdown()


@pytest.fixture
def workspace(tmp_path):
    import yaml

    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["classifier"] |= {"channels": 4, "feature_dim": 8, "steps": 300, "batch_size": 16}
    values["study"]["real_images"] = [40]
    values["execution"]["processes"] = 2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    (tmp_path / "cells.py").write_text(CELLS)
    return tmp_path


def train(workspace, name, address=None):
    folder = workspace / name
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SYNTHGAIN_STORE": str(folder / "store")}
    environment.pop("RAY_ADDRESS", None)
    if address:
        environment["RAY_ADDRESS"] = address
    return subprocess.Popen(
        [sys.executable, str(workspace / "cells.py"), str(workspace / "params.yaml")],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def digests(workspace, name, process):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return json.loads((workspace / name / "digests.json").read_text())


# Generates a file; prints how many parts of it this process made itself.
IMAGES = """
import json, sys
from pathlib import Path
import torch
from pipeline.gan import generation
from pipeline.gan.generators import save_generator
from pipeline.gan.networks import Generator, GeneratorDesign

made_here = []
sample = generation.sample_images
generation.sample_images = lambda *a, **k: (made_here.append(1), sample(*a, **k))[1]
torch.manual_seed(0)
generator = Generator(GeneratorDesign(**json.loads(sys.argv[1]))).eval()
generation.generate_file(generator, Path("images.npz"),
    class_names=("a", "b", "c"), counts=[9000, 10, 700], seed=7, provenance={"generator_sha256": "f" * 64},
    device=torch.device("cpu"))
save_generator(Path("generator.safetensors"), generator, class_names=("a", "b", "c"), provenance={})
from synthgain.export import export
export(Path("generator.safetensors"), "drawn", per_class=600, seed=7, shard_size=500, workers=1)
print(len(made_here))
"""


@pytest.mark.slow
def test_images_of_a_cluster_are_those_of_this_machine(nodes, tmp_path):
    """Those of a file, and those of an export that a generator draws."""
    written, drawn, parts, said = {}, {}, {}, {}
    for name, address in {"here": None, "there": nodes}.items():
        folder = tmp_path / name
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("RAY_ADDRESS", None)
        environment |= {"RAY_ADDRESS": address} if address else {}
        command = [sys.executable, "-c", IMAGES, json.dumps(TINY)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        written[name], parts[name] = (folder / "images.npz").read_bytes(), int(done.stdout.split()[-1])
        said[name] = done.stderr
        files = [path for path in (folder / "drawn").rglob("*") if path.is_file()]
        drawn[name] = {path.relative_to(folder): path.read_bytes() for path in files}
    assert drawn["there"] == drawn["here"] and len(drawn["here"]) == 8
    assert written["there"] == written["here"]
    assert parts == {"here": 3, "there": 0}
    where = pd.read_csv(tmp_path / "there/.work/cluster.csv", keep_default_na=False)
    assert where.groupby("work").tasks.sum().to_dict() == {"_images_of": 3, "write_shard": 4}
    assert set(where.differs) == {""} and where.node.str.contains("/").all()
    assert "3 tasks on the cluster: " in said["there"] and "cluster" not in said["here"]


@pytest.mark.slow
def test_classifiers_of_a_cluster_are_those_of_this_machine_whatever_worker_dies(nodes, workspace):
    import psutil

    here = digests(workspace, "here", train(workspace, "here"))
    assert len(here) == 6 and len(set(here)) == 6
    process, killed = train(workspace, "killed", nodes), 0
    while process.poll() is None and killed < 2:
        time.sleep(0.2)
        for worker in psutil.process_iter(["name", "cmdline"]):
            if " ".join(worker.info["cmdline"] or []).startswith("ray::_run") and killed < 2:
                worker.send_signal(signal.SIGKILL)
                killed += 1
                time.sleep(1)
                break
    assert killed == 2
    assert digests(workspace, "killed", process) == here


@pytest.mark.slow
def test_a_cluster_without_a_gpu_is_refused_where_one_is_needed(nodes, tmp_path):
    """It would wait for one for ever."""
    (tmp_path / ".work").mkdir()
    code = (
        "import torch\n"
        "from pipeline.runtime.device import Workers\n"
        "from pipeline.runtime.parallel import parallel_map\n"
        "workers = Workers(1, 1, torch.device('cuda'))\n"
        "print(list(parallel_map(abs, [1], workers=workers, advance=print)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": nodes}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no machine of the cluster has a GPU for Ray" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_error_of_a_task_is_the_error_of_the_command(nodes, workspace):
    values = (workspace / "params.yaml").read_text().replace("learning_rate: 0.003", "learning_rate: 1.0e+30")
    (workspace / "params.yaml").write_text(values)
    said, _ = train(workspace, "diverged", nodes).communicate(timeout=300)
    assert "SynthGainError: the classifier diverged" in said.splitlines()[-1], said


# Two tasks at once, of which one fails; then another map in the same process.
FAILED = """
import time
from pathlib import Path
from pipeline.runtime.device import Workers
from pipeline.runtime.parallel import parallel_map

def work(job, advance):
    if job == 0:
        raise ValueError("as it should")
    Path(f"began{job}").touch()
    time.sleep(8)
    Path(f"ended{job}").touch()

workers = Workers(1, 1, None)
try:
    list(parallel_map(work, range(4), workers=workers, advance=print))
except ValueError as error:
    print(error)
print([result for _, result in parallel_map(abs_of, [-1, 2], workers=workers, advance=print)])
"""


@pytest.mark.slow
def test_a_failed_task_ends_the_others_and_the_process_goes_on(nodes, tmp_path):
    """`ray.cancel` aborted the process now and then: a task that ends while it is cancelled."""
    (tmp_path / ".work").mkdir()
    (tmp_path / "script.py").write_text(FAILED.replace("abs_of", "lambda job, advance: abs(job)"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": nodes}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["as it should", "[1, 2]"], done.stderr
    time.sleep(9)
    assert not list(tmp_path.glob("ended*"))
