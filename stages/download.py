"""Stage `download`: the raw files of the source, exactly as published, checksums verified."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    folder: Annotated[
        Path, typer.Option(help="Own images; also the place for files that are put there by hand.")
    ],
    out: Annotated[Path, typer.Option(help="The raw folder to fill.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Fetch the real images of data.source from the first mirror that gives them unaltered.

    Example: python -m stages.download --folder data/own --out data/raw
    """
    from pipeline.params import load_params
    from pipeline.sources import download_raw

    params = load_params(params_file)
    download_raw(
        params.data.source,
        out,
        mirrors=params.data.mirrors,
        folder=folder,
        image_size=params.data.image_size,
        say=typer.echo,
    )


if __name__ == "__main__":
    run(main)
