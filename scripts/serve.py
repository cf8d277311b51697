"""Show the book on this machine, built again at every change: `make serve`."""

from __future__ import annotations

import argparse

from livereload import Server

import build_book

WATCHED = ("book", "src/geobook", "results", "_config.yml", "_toc.yml")


def rebuild() -> None:
    """Build; a failure is told and the old pages stay."""
    build_book.main([])


def main() -> None:
    """Build, then watch and serve on the loopback address only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    rebuild()
    server = Server()
    for path in (build_book.ROOT / name for name in WATCHED):
        server.watch(str(path), rebuild, ignore=lambda name: "__pycache__" in name)
    print(f"Open http://127.0.0.1:{port}/ (stop with Ctrl-C)", flush=True)
    server.serve(host="127.0.0.1", port=port, root=str(build_book.ROOT / "_build" / "html"))


if __name__ == "__main__":
    main()
