"""The steps of a round with hvac: each is printed, and the first that is not as it should be ends the round."""
import sys

def step(what, holds):
    print(("ok " if holds else "NOT ") + what)
    if not holds:
        sys.exit(1)

def refused(kind, act):
    """The error of that kind that the act ended with, or None."""
    try:
        act()
    except kind as error:
        return error
    return None
