"""What every layer uses: errors, files, registries, predictions, tables, listeners; the version of the package."""

__version__ = "0.2.0"
