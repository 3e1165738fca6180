"""Networks and their weights. Above the waterline: torch, torchvision, timm and fastai are imported here."""

import warnings

with warnings.catch_warnings():
    # fastai scripts functions while it is imported, which torch deprecates; nobody who uses this package can help it
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.|fastai\.")
    import fastai.layers  # noqa: F401
