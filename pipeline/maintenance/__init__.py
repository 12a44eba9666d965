"""Workspaces, the doctor, and what a kill left behind."""
