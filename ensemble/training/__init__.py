"""fastai learners trained in stages, resumable to the bit at every epoch. Above the waterline."""

import ensemble.models  # noqa: F401  fastai is imported there without its warnings
