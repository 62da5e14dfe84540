"""`python -m gsoc_kd VERB` is `gsoc-kd VERB`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
