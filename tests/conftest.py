"""What holds for every test."""

import os

import joblib

# runs are compared to the bit, so the number of threads must not depend on what else the machine does
os.environ.setdefault("OMP_NUM_THREADS", str(joblib.cpu_count()))
