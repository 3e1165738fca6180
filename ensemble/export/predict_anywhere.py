"""Probabilities of images as JSON lines: `python predict.py IMAGE...`; needs onnxruntime, numpy and Pillow only."""

import json
import sys
from functools import reduce
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageFilter, ImageOps

STEPS = {
    "grey": lambda image, size: ImageOps.grayscale(image).convert("RGB"),
    "edges": lambda image, size: image.filter(ImageFilter.EDGE_ENHANCE),
    "smooth": lambda image, size: image.filter(ImageFilter.GaussianBlur(min(image.size) / 256)),
    "squash": lambda image, size: image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0),
    "crop": lambda image, size: ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR),
    "pad": lambda image, size: ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR),
}
if __name__ == "__main__":
    config, feeds = json.loads(Path(__file__).with_name("config.json").read_text(encoding="utf-8")), {}
    session = onnxruntime.InferenceSession(str(Path(__file__).with_name("model.onnx")))
    for path in sys.argv[1:]:
        try:  # to 8-bit RGB, upright; one broken file is named, and the others are predicted
            image = ImageOps.exif_transpose(opened := Image.open(path))
            grey16, several = image.mode[0] == "I", opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1
            vague = image.mode == "F" or (image.mode == "I" and opened.format == "TIFF")
            rgba = (Image.fromarray((np.asarray(image) >> 8).astype("u1")) if grey16 else image).convert("RGBA")
            clear = rgba.getextrema()[3][0] < 255 and config["behind"] is None
            if clear or vague or several or (grey16 and "transparency" in image.info):
                raise ValueError("has transparent pixels, several pages or pixels of an unknown range")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, config["behind"] or 0), rgba).convert("RGB")
        except Exception as error:
            print(f"{path}: {error}", file=sys.stderr)
            continue
        for feed in config["inputs"]:
            square = reduce(lambda x, step, size=feed["size"]: STEPS[step](x, size), feed["steps"], image)
            feeds[feed["name"]] = np.asarray(square)[None]
        probs = dict(zip(config["classes"], session.run(["probabilities"], feeds)[0][0].tolist(), strict=True))
        print(json.dumps({"image": path, "label": max(probs, key=probs.get), "probabilities": probs}))
