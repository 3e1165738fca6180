"""The order that rows and columns are put in before anything is summed, whoever comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ensemble.data.names import natural_key
from ensemble.predictions import Texts


def agreed_order(orders: Sequence[Texts]) -> Texts:
    """The order that most members share; a tie goes to the natural order, then the plain, then the smallest.

    One member whose rows or columns were permuted is put right, and never moves the others.
    """
    if all(len(order) == len(orders[0]) and bool((order == orders[0]).all()) for order in orders[1:]):
        return orders[0]
    counts = Counter(tuple(order.tolist()) for order in orders)
    most = max(counts.values())
    tied = [names for names, count in counts.items() if count == most]
    natural = [names for names in tied if list(names) == sorted(names, key=natural_key)]
    plain = [names for names in tied if list(names) == sorted(names)]
    return np.array(min(natural or plain or tied), dtype=np.str_)
