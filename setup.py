"""Puts into the wheel what a workspace needs beside the code. The files at the top level stay the only source."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FILES = (
    "dvc.yaml",
    ".dvcignore",
    "params.yaml",
    "studies/**/*.yaml",
    "own/*/README.md",
    "data/*/README.md",
)


class BuildWithProject(build_py):
    """The packages, and the project's files as `synthgain/project` (`pipeline.maintenance.workspace.PROJECT`)."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a clone has them where they are
            return
        for file in (file for pattern in FILES for file in ROOT.glob(pattern)):
            target = Path(self.build_lib, "synthgain/project", file.relative_to(ROOT))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


setup(cmdclass={"build_py": BuildWithProject})
