"""Unpacks the members of an archive whose names begin with a prefix: ARCHIVE PREFIX DIRECTORY.

The prefix is removed from their names. Programs keep the permission to be executed.
"""

import os
import shutil
import sys
import tarfile
import zipfile


def members(archive):
    """Yields the name of each file, its mode, and a function that opens it."""
    if archive.endswith(".tar.gz"):
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isfile():
                    yield member.name, member.mode, lambda: opened.extractfile(member)
    else:
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if not member.is_dir():
                    yield member.filename, member.external_attr >> 16, lambda: opened.open(member)


def main(archive, prefix, directory):
    count = 0
    for name, mode, read in members(archive):
        if not name.startswith(prefix):
            continue
        path = os.path.join(directory, os.path.normpath("/" + name[len(prefix) :])[1:])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with read() as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)
        os.chmod(path, 0o755 if mode & 0o100 else 0o644)
        count += 1
    if count == 0:
        sys.exit(f"unpack {archive}: it has nothing below {prefix}")


if __name__ == "__main__":
    main(*sys.argv[1:])
