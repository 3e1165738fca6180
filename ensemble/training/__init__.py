"""Training of fastai learners in stages, resumable bit for bit after every epoch. Imports torch and fastai."""

import ensemble.models  # noqa: F401  imports fastai with its warnings silenced
