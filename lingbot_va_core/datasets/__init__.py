"""Demonstrations on disk in the LeRobot v3 format: writing, reading and checking; docs/datasets.md."""
