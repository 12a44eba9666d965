"""One small command per stage of dvc.yaml, and the `synthgain` console app that offers them."""
