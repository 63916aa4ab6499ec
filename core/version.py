"""The one place the version is written; setup.py, the commands, the look and the node read it here."""

VERSION = "0.1.0"
