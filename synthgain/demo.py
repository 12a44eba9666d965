"""`synthgain demo`: the whole pipeline in minutes."""

from pathlib import Path

from synthgain.workspace import Folder, run_pipeline


def demo(folder: Folder = Path("build/demo")) -> None:
    """Run the whole pipeline on scikit-learn's embedded digits: no download, no GPU, a few minutes.

    Example: synthgain demo build/demo
    """
    from pipeline.maintenance.workspace import PROJECT, create_workspace
    from pipeline.runtime.outputs import only_writer

    with only_writer(folder):
        create_workspace(folder, changes=PROJECT / "studies" / "demo.yaml")
        run_pipeline(folder)
