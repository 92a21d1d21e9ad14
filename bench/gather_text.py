#!/usr/bin/env python3
"""Gathers text to measure the tokenizer with: English, source code and other scripts.

usage: gather_text.py FOLDER     writes english.txt, prose.txt, code.txt, scripts.txt there

The text comes from Debian 12's packages (documentation, dictionaries, novels, manual pages), which
apt-get downloads into FOLDER/packages without installing them. Mark-up is taken out, and no line of
40 characters or more is written twice. It needs apt-get, dpkg-deb and about 3 GB of disk.
"""

import gzip
import html
import re
import subprocess
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import austen  # noqa: E402

PROSE = ["r-cran-janeaustenr", "anarchism", "debian-handbook", "fortunes", "dict-jargon",
         "debian-faq", "debian-policy", "developers-reference", "python3.11-doc"]
ENGLISH = ["postgresql-doc-15", "dict-gcide", "dict-foldoc", "linux-doc-6.1", "openjdk-17-doc",
           "qtbase5-doc-html", "erlang-doc", "llvm-14-doc", "libreoffice-help-en-us", "racket-doc",
           "debian-reference-en", "manpages", "manpages-dev", "installation-guide-amd64",
           "libboost1.81-doc", "vim-doc", "gnucash-docs"]
CODE = ["linux-source-6.1", "python3.11-examples", "libpython3.11-stdlib", "libpython3.11-minimal"]
SCRIPTS = ["manpages-ja", "manpages-zh", "manpages-ru", "libreoffice-help-ja",
           "libreoffice-help-zh-cn", "libreoffice-help-ko", "libreoffice-help-hi",
           "libreoffice-help-ru", "debian-reference-ja", "debian-reference-zh-cn", "aptitude-doc-ja"]

PROSE_BYTES = 20_000_000
MOST_BYTES = {"english": 260_000_000, "code": 60_000_000, "scripts": 60_000_000}
MARKUP = re.compile(r"(?s)<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>")
ROFF = re.compile(r"(?m)^[.'].*\n|\\f[A-Z]|\\[-&]")
# Folders and files of translations, in packages that hold all of them.
OTHER_LANGUAGES = re.compile(
    r"/(?!en)[a-z]{2}[-_][A-Z]{2}/|\.(?!en)[a-z]{2}(?:-[a-z]{2})?\.(?:html|txt)|/(?:ja|zh|ru|de|fr)/")
LONG_LINE = 40


class Writer:
    """One file of text in which no long line stands twice."""

    def __init__(self, path: Path, most: int):
        self.file = open(path, "w", encoding="utf-8", newline="")
        self.seen: set = set()
        self.left = most

    def write(self, text: str) -> None:
        kept = []
        for line in text.splitlines():
            line = line.rstrip()
            if len(line) >= LONG_LINE:
                if hash(line) in self.seen:
                    continue
                self.seen.add(hash(line))
            elif not line and (not kept or not kept[-1]):
                continue
            kept.append(line)
        block = "\n".join(kept) + "\n"
        if len(kept) > 3 and self.left > 0:
            self.file.write(block)
            self.left -= len(block.encode())


def unpack(package: str, folder: Path) -> Path:
    """The files of a package, downloaded where they are not yet there."""
    out = folder / "packages" / package
    if not out.is_dir():
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", package], cwd=out.parent, check=True)
        (deb,) = out.parent.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(deb), str(out)], check=True)
    for archive in out.rglob("linux-source-*.tar.xz"):
        if not (out / "linux").is_dir():
            (out / "linux").mkdir()
            subprocess.run(["tar", "-xf", str(archive), "-C", str(out / "linux"),
                            "--wildcards", "*/kernel/*", "*/fs/*", "*/mm/*", "*/net/*"], check=True)
    return out


def dictionary(data: bytes) -> str:
    """A dictzip file is a gzip file."""
    return gzip.decompress(data).decode("utf-8", "replace")


def novels(data: bytes) -> str:
    """The data sets of an R package that are lines of text."""
    found = (austen.lines_of(unpacked) for unpacked in austen.objects_of(data))
    return "\n".join("\n".join(lines) for lines in found if lines)


def text_of(path: Path, source: bool) -> str:
    name = path.name
    data = path.read_bytes()
    if name == "Rdata.rdb":
        return novels(data)
    if name.endswith(".dict.dz"):
        return dictionary(data)
    if name.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return ""
        name = name[:-3]
    if source:
        return data.decode("utf-8", "replace") if name.endswith((".c", ".h", ".py")) else ""
    if b"\0" in data[:4096]:
        return ""
    text = data.decode("utf-8", "ignore")
    if name.endswith((".html", ".xhtml", ".htm")):
        return html.unescape(MARKUP.sub(" ", text))
    if re.search(r"\.\d\w*$", name):
        return ROFF.sub("", text)
    return text if name.endswith((".txt", ".rst", ".rawtext")) or "." not in name else ""


def gather(packages: list, writer: Writer, folder: Path, source: bool = False) -> None:
    for package in packages:
        try:
            root = unpack(package, folder)
        except subprocess.CalledProcessError:
            print(f"{package}: not to be had, left out", file=sys.stderr)
            continue
        for path in sorted(root.rglob("*")):
            if OTHER_LANGUAGES.search(str(path.relative_to(root))) and packages is not SCRIPTS:
                continue
            if path.is_file() and not path.is_symlink() and writer.left > 0:
                writer.write(text_of(path, source))
        print(f"{package}: {writer.left / 1e6:.0f} MB still wanted", file=sys.stderr)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    english = Writer(folder / "english.txt", MOST_BYTES["english"])
    gather(PROSE, english, folder)
    english.file.flush()
    with open(folder / "english.txt", "rb") as whole:
        (folder / "prose.txt").write_bytes(whole.read(PROSE_BYTES))
    gather(ENGLISH, english, folder)
    gather(CODE, Writer(folder / "code.txt", MOST_BYTES["code"]), folder, source=True)
    gather(SCRIPTS, Writer(folder / "scripts.txt", MOST_BYTES["scripts"]), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
