"""Where and how code runs: device, seeds, crash-safe outputs, parallel work, progress."""
