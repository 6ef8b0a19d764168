"""``python -m tsp`` is ``tsp``, where the command is not on the path."""

from tsp.cli import main

if __name__ == "__main__":
    main()
