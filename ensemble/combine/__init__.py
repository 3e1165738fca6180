"""Several runs to one: which are chosen, how they are weighed, what that is honestly worth. Numpy only."""
