"""`python -m ensemble` is `ens`."""

from ensemble.cli import main

if __name__ == "__main__":
    main()
