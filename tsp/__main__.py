"""``python -m tsp``: the command line."""

from tsp.cli.main import main

if __name__ == "__main__":
    main()
