"""The version, for the package and for what it writes; `setup.cfg` reads it here."""

__version__ = "0.1.0"
