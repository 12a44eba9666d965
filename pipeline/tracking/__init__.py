"""The mirror of the results in MLflow. No other room imports MLflow."""

import os

# MLflow reads some of these while it is imported, so they come before. With its own 7 retries of 120 s, a
# server that is down looks like a hang of minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
# A server may ask to wait for an hour; `track` ends and says so.
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # no Git on this machine is no news
# Two lines per run that ends on a server. `track` prints one link for all of them.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # the project has its own
