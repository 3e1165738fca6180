"""Near duplicates: copies are found and strangers are not; registration."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.duplicate_factory import near_scores, scene
from PIL import Image
from scipy.ndimage import gaussian_filter

from ensemble.check import near
from ensemble.check.align import luminance, overlaid, prepared, registered
from ensemble.check.hashes import Proposals, hashes_of, proposals
from ensemble.check.near import near_pairs, overlay, prepare

TEST_SEED = 90
"""The thresholds were chosen on pictures of seeds 1 to 7."""


def test_near_duplicates_are_found_and_strangers_are_not() -> None:
    large = near_scores(128, TEST_SEED, 12, 6)
    assert large["recall_of_all"] >= 0.95 and large["precision"] >= 0.95, large
    small = near_scores(32, TEST_SEED, 24)
    assert small["recall_but_crops"] >= 0.95 and small["precision"] >= 0.95, small


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 128, 256])
@pytest.mark.parametrize("seed", [TEST_SEED + 1, TEST_SEED + 2])
def test_near_duplicates_of_other_seeds_and_sizes(size: int, seed: int) -> None:
    result = near_scores(size, seed, 30 if size > 128 else 60)
    assert result["precision"] >= 0.95 and result["recall_of_all" if size >= 128 else "recall_but_crops"] >= 0.95, (
        result
    )


@pytest.mark.parametrize(("scale", "shift"), [((0.0, 0.0), (0.08, -0.06)), ((-0.05, -0.1), (0.0, 0.05))])
def test_registration_finds_scale_and_shift(scale: tuple[float, float], shift: tuple[float, float]) -> None:
    """A place u of the first is (1 + scale) u + shift of the second; brightness and contrast do not matter."""
    whole = scene(np.random.default_rng(5), 256)
    box = lambda s, t: [*(128 + 96 * (t - (1 + s)))[::-1], *(128 + 96 * (t + (1 + s)))[::-1]]  # noqa: E731
    first = whole.resize((32, 32), Image.Resampling.BILINEAR, box=box(np.array(scale), np.array(shift)))
    second = whole.resize((32, 32), Image.Resampling.BILINEAR, box=box(np.zeros(2), np.zeros(2)))
    a, b = luminance(np.asarray(first)[None]), 0.7 * luminance(np.asarray(second)[None]) + 20
    zero = np.zeros((1, 2), np.float32)
    result = overlaid(prepared(a), prepared(b), *registered(a, b, zero, zero))
    assert result.scale[0] == pytest.approx(scale, abs=0.02) and result.shift[0] == pytest.approx(shift, abs=0.02)
    assert result.correlation[0] > 0.97 and result.detail[0] > 0.9


def test_constant_images_are_no_near_duplicates() -> None:
    flat = np.full((6, 32, 32, 3), 255, np.uint8)
    flat[3:] = 0
    assert len(near_pairs(flat)) == 0
    assert len(near_pairs(flat[:0])) == 0 and len(near_pairs(flat[:1])) == 0


def test_near_pairs_without_proposals_are_empty() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    item = np.zeros(1, np.int64)
    kept, result = overlay(prepare(pictures), Proposals(item, item + 1, item.astype(bool)))
    assert len(kept) == 0 and result.correlation.shape == (0,)


def test_similar_images_are_not_all_overlaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dark spot on bright skin, and texture of its own: the hashes propose most pairs of such pictures."""
    random = np.random.default_rng(0)
    n, copies = 400, 40
    places = np.linspace(-1, 1, 32)
    spots = []
    for _ in range(n):
        (x, y), (wide, high) = random.normal(0, 0.01, 2), random.uniform(0.55, 0.6, 2)
        spots.append(((places[:, None] - y) / high) ** 2 + ((places - x) / wide) ** 2)
    base = 190 - 110 / (1 + np.exp(4 * (np.stack(spots) - 1)))
    texture = gaussian_filter(random.normal(0, 1, (n, 32, 32)), (0, 1, 1)) * 20
    grey = np.clip(base + texture, 0, 255)
    grey[-copies:] = np.clip(grey[:copies] * 0.9 + 5, 0, 255)  # darker copies of the first
    pictures = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=3)
    looked: list[int] = []
    real = near.overlay
    monkeypatch.setattr(near, "overlay", lambda p, pairs: (looked.append(len(pairs)), real(p, pairs))[1])
    assert len(proposals(hashes_of(pictures))) > 20 * n
    result = near_pairs(pictures)
    pairs = set(zip(result.first.tolist(), result.second.tolist(), strict=True))
    assert {(row, n - copies + row) for row in range(copies)} <= pairs
    assert sum(looked) <= 6 * n


def test_proposals_are_those_of_every_pair_compared() -> None:
    random = np.random.default_rng(0)
    base = random.integers(0, 255, (150, 8, 8, 3), np.uint8)
    pictures = (
        np.concatenate([base, base[:, :, ::-1], base + (base < 240).astype(np.uint8)]).repeat(4, 1).repeat(4, 2)
    )
    hashes = hashes_of(pictures)
    result = proposals(hashes)
    expected = set()
    n = len(pictures)
    for mirrored in (0, 1):
        for words, radius in ((hashes.phash, 14), (hashes.dhash, 10)):
            bits = np.bitwise_count(words[mirrored][:, None] ^ words[0][None])
            expected |= {(i, j, bool(mirrored)) for i, j in np.argwhere(bits <= radius).tolist() if i < j}
    assert (
        set(zip(result.first.tolist(), result.second.tolist(), result.mirrored.tolist(), strict=True)) == expected
    )
    assert len(result) == len(expected) >= n / 3
    assert 0 < len(proposals(hashes, limit=100)) < len(result)
