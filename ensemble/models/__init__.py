"""Networks and their weights. Above the waterline: torch, torchvision, timm and fastai are imported here."""
