"""Networks and their weights. Above the waterline: torch, torchvision, timm and fastai are imported here."""

import warnings

with warnings.catch_warnings():
    # fastai scripts functions while it is imported, which torch deprecates and no user can change
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.|fastai\.")
    import fastai.layers  # noqa: F401
