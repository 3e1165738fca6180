"""The order of this package's fastai callbacks, in one place: a lower number is called first.

fastai's own: TrainEvalCallback -10, Recorder 50, ParamScheduler 60, SkipToEpoch 70.
"""

VALIDATION = -20
"""Before the recorder, which must not count a validation that is cancelled."""
FETCH_LOSSES = 51
"""After Recorder, whose losses it moves."""
RANGE_TEST = 61
"""After ParamScheduler."""
HISTORY = 80
"""After SkipToEpoch, which cancels the epochs that a resumed run had completed."""
CACHED_FEATURES = 85
"""After History, whose seconds include the computation of the features."""
CHECKPOINT = 90
"""After SkipToEpoch and History."""
PRUNING = 95
"""After the checkpoint's callback, which restores the random state that the choice of items uses."""
