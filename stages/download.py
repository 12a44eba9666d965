"""Stage `download`: the raw files of the source, exactly as published, checksums verified."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    out: Annotated[Path, typer.Option(help="The raw folder to fill.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Fetch the real images of data.source from the first mirror that gives them unaltered.

    Own images, and files that were put there by hand, are in data.folder.

    Example: python -m stages.download --out data/raw
    """
    from pipeline.params import load_params
    from pipeline.sources import download_raw

    params = load_params(params_file)
    download_raw(
        params.data.source,
        out,
        mirrors=params.data.mirrors,
        folder=Path(params.data.folder),
        image_size=params.data.image_size,
        channels=params.data.channels,
        unusable=params.data.unusable_images,
        say=typer.echo,
    )


if __name__ == "__main__":
    run(main)
