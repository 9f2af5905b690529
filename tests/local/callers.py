"""Who may call the servers of the local stack: programs on this machine, and the page from its own address.

A site that a developer visits can make the browser send requests to 127.0.0.1, and, by a name of its own that leads
there, read what is answered. Such a request says by which name it came, or from which page.
"""

from urllib.parse import urlsplit

NAMES = {"127.0.0.1", "localhost"}


def is_from_here(host: str | None, origin: str | None) -> bool:
    """Say whether a request with these headers is one of this machine's own."""
    return urlsplit(f"//{host or '127.0.0.1'}").hostname in NAMES and origin in (None, f"http://{host}")
