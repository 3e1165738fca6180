"""Networks and their weights. This package imports torch, torchvision, timm and fastai."""

import warnings

with warnings.catch_warnings():
    # fastai calls torch.jit.script at import time, which torch deprecates and no user can change
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.|fastai\.")
    import fastai.layers  # noqa: F401
