"""The console app `synthgain`, one file per command."""
