"""fastai learners trained in stages, resumable to the bit at every epoch. Above the waterline."""
