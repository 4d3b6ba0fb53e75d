"""The data path: speed of batches, the first epoch over a folder of photographs, and memory.

    python benchmarks/folder_throughput.py             # batches and folder
    python benchmarks/folder_throughput.py --memory    # peak memory of short trainings

batches  uint8 32x32x3 in memory -> mirrored, moved by up to 4 pixels, normalised float batches, on
         one core, pictures a second after a warm epoch. Floor 40,000. Peers: torchvision's
         transforms in a DataLoader, picture by picture; transforms.v2 on whole batches, which gives
         all pictures of a batch one place and one side and is faster for it.
folder   1,000 JPEGs of 500x375 in two folders -> batches of 128 px, mirrored and randomly cut. The
         clock runs after the imports. Striate starts from a cold cache: it reads, hashes, decodes
         and stores every file, measures mean and deviation, then gives one epoch with its default
         changes (the colour jitter, which the peer does not do, included). Its crops are cut from
         stored 128 px squares, torchvision's from the full picture. Floor: 1.5 times the faster of
         ImageFolder + DataLoader with 0 and with 2 workers. The second epoch stands beside it.
memory   peak resident memory of `striate train` over that of a process that imports torch and
         striate.run and stops. Limit: 1.5 times the bytes of the samples + 200 MB.

The files are made before any clock runs: of the hymenoptera photographs in STRIATE_DATA, each cut
at another place, or of seeded synthetic pictures where those are absent; JPEG quality 90.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from cifar10_94 import cifar
from contest import (
    Contestant,
    Row,
    arguments,
    compete,
    data_folder,
    machine,
    options,
    peer,
    peers_python,
    say,
    striate,
)
from tables import MEMORY, WALL, Column, ratios, table

BATCHES = Column("images/s, one core", lambda row: row.result.get("images_per_second"), "{:,.0f}")
FIRST = Column("first epoch, s", lambda row: row.result.get("first"), "{:.2f}")
SECOND = Column("second epoch, s", lambda row: row.result.get("second"), "{:.2f}")
FIRST_RATE = Column("first, images/s", lambda row: row.result.get("first_rate"), "{:,.0f}")
SECOND_RATE = Column("second, images/s", lambda row: row.result.get("second_rate"), "{:,.0f}")
SAMPLES = {"mnist": 70_000 * 28 * 28, "cifar10": 60_000 * 3 * 32 * 32}  # bytes
VISION = ("torch", "torchvision")


def batches(count: int, times: int) -> list[Contestant]:
    """Return who turns stored arrays into batches."""
    size = ("--images", str(count), "--times", str(times))
    # A picture at a time takes seconds for each thousand.
    few = ("--images", str(count // 4), "--times", str(times))
    return [
        _own("striate", "batches", "striate", *size),
        peer("dataloader", "data_peers.py", "batches", "samples", *few, needs=VISION),
        peer("v2-batches", "data_peers.py", "batches", "v2", *size, needs=VISION),
    ]


def folder(path: Path) -> list[Contestant]:
    """Return who turns a folder of photographs into batches."""
    files = ("--folder", str(path))
    peers = [
        peer(f"imagefolder-{n}", "data_peers.py", "folder", "samples", *files, "--workers", str(n),
             needs=VISION)
        for n in (0, 2)
    ]  # fmt: skip
    return [_own("striate", "folder", "striate", *files), *peers]


def memory(colours: str, quick: bool = False) -> list[Contestant]:
    """Return short trainings, and a process that only imports."""
    epochs = ("--epochs", "0.02" if quick else "0.5")
    # Left as the command leaves: unloading torch would add 100 MB to the peak of the imports.
    code = "import os, torch, striate.run; print('{}', flush=True); os._exit(0)"
    imports = Contestant("imports", lambda *_: [sys.executable, "-c", code])
    mnist = striate("mnist", "mnist", *epochs)
    return [imports, mnist, *([] if quick else [striate("cifar10", colours, *epochs)])]


def _own(name: str, *words: str) -> Contestant:
    """Return a worker of this folder that runs in the interpreter that has Striate."""
    script = str(Path(__file__).resolve().with_name("data_peers.py"))
    return Contestant(name, lambda seed, _: [sys.executable, script, *words, "--seed", str(seed)])


def excess(rows: Sequence[Row]) -> list[str]:
    """Return one line a data set: memory over the imports' own, and its limit."""
    base = [row.memory for row in rows if row.name == "imports" and not row.error]
    lines = []
    for name, size in SAMPLES.items():
        own = [row.memory for row in rows if row.name == name and not row.error]
        if base and own:
            over, limit = (max(own) - median(base)) / 1e6, 1.5 * size / 1e6 + 200
            judged = "reached" if over <= limit else "MISSED"
            lines.append(
                f"{name}: {over:.0f} MB over the imports (samples {size / 1e6:.0f} MB, limit "
                f"{limit:.0f} MB): {judged}"
            )
    return lines


def floors(rows: Sequence[Row]) -> list[str]:
    """Return one line a floor that `rows` can answer."""
    lines = []
    rates = BATCHES.values(row for row in rows if row.name == "striate")
    if rates:
        judged = "reached" if median(rates) >= 40_000 else "MISSED"
        lines.append(f"striate: {median(rates):,.0f} images/s a core (floor 40,000): {judged}")
    first = {
        name: median(values)
        for name in ("striate", "imagefolder-0", "imagefolder-2")
        if (values := FIRST.values(row for row in rows if row.name == name))
    }
    peers = [value for name, value in first.items() if name != "striate"]
    if "striate" in first and peers:
        ratio = min(peers) / first["striate"]
        judged = "reached" if ratio >= 1.5 else "MISSED"
        lines.append(f"first epoch: {ratio:.2f} times the faster peer (floor 1.5): {judged}")
    return lines


def make_photos(path: Path, count: int) -> None:
    """Write `count` JPEGs of 500x375 into two class folders, in a process of its own."""
    home = data_folder()
    source = home / "hymenoptera" if home else Path("absent")
    say(f"making {count} JPEGs of {source if source.is_dir() else 'synthetic pictures'}")
    script = str(Path(__file__).resolve().with_name("photo_maker.py"))
    words = [peers_python(), script, str(source), str(path), str(count)]
    subprocess.run(words, check=True)


def main(words: Sequence[str] | None = None) -> None:
    """Hold the contests and print their tables."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--memory", action="store_true", help="measure memory, and nothing else")
    parser.add_argument("--files", type=int, help="JPEGs in the folder [1000]")
    chosen = arguments(parser, words)
    saved = chosen.json
    print(machine(), end="\n\n")
    if chosen.memory:
        with cifar(None) as colours:
            able = memory(colours, chosen.quick)
            rows = compete(able, chosen)
        print(table(able, rows, (MEMORY, WALL)), end="\n\n")
        print("\n".join(excess(rows)))
        return
    able = batches(1_000, 1) if chosen.quick else batches(20_000, 5)
    rows = compete(able, chosen)
    compared = ratios(able, rows, BATCHES, more_is_better=True)
    print(table(able, rows, (BATCHES,), compared), *floors(rows), sep="\n\n", end="\n\n")
    with TemporaryDirectory(prefix="photos-") as home:
        make_photos(Path(home), chosen.files or (60 if chosen.quick else 1000))
        able = folder(Path(home))
        if saved:
            chosen.json = saved.with_stem(f"{saved.stem}-folder")
        rows = compete(able, chosen)
    compared = ratios(able, rows, FIRST)
    shown = (FIRST, FIRST_RATE, SECOND, SECOND_RATE, MEMORY)
    print(table(able, rows, shown, compared), *floors(rows), sep="\n\n")


if __name__ == "__main__":
    main()
