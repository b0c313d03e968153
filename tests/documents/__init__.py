"""The code in README.md and docs/, found and run as it stands there."""
