"""`python -m tomopolish` is `tomopolish`."""

from tomopolish.cli import main

if __name__ == "__main__":
    main()
