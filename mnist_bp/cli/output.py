"""Text on stdout. Parts of it come from outside: keys of a store, names in documents, paths."""

from __future__ import annotations

from mnist_bp.errors import printable


def say(*lines: object, sep: str = " ", end: str = "\n") -> None:
    """Print on stdout, as `print` does, with control characters escaped: no text from outside moves the cursor.

    Args:
        lines: Values to print.
        sep: Text between two of them.
        end: Text after the last.
    """
    print(*(printable(str(line)) for line in lines), sep=sep, end=end)
