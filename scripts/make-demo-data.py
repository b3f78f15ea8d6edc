#!/usr/bin/env python3
"""Makes tests/data/payments from the first 20,000 rows of the MLG-ULB card payments.

Usage: scripts/make-demo-data.py creditcard.csv[.xz|.gz] [FOLDER]

The source is a table of card payments with the columns Time, V1 … V28, Amount, Class. Each number is written with the
digits that it has in the source, so that no value changes on the way; Class, which the source quotes, becomes a bare
integer. The same source always gives the same bytes (gzip is told no time and no name).
"""

import csv
import gzip
import io
import lzma
import re
import sys
from pathlib import Path

FILES = ["2013-09-01.csv", "2013-09-02.csv", "2013-09-03.jsonl", "2013-09-04.jsonl"]
ROWS = 5_000
FRAUDS = 85
FLAGGED, TRUE_FLAGGED = 75, 44
COLUMNS = ["Time", *(f"V{n}" for n in range(1, 29)), "Amount", "Class"]
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = Path(sys.argv[1])
    default = Path(__file__).resolve().parent.parent / "tests" / "data" / "payments"
    folder = Path(sys.argv[2]) if len(sys.argv) == 3 else default
    rows = read(source, ROWS * len(FILES))
    check(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(FILES):
        part = rows[number * ROWS : (number + 1) * ROWS]
        text = as_csv(part) if name.endswith(".csv") else as_json_lines(part)
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0, compresslevel=9) as out:
            out.write(text.encode())
        (folder / f"{name}.gz").write_bytes(packed.getvalue())
        print(f"{name}: {len(part)} rows, {len(text)} bytes, {len(packed.getvalue())} compressed")


def read(source: Path, count: int) -> list[list[str]]:
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(source.suffix, open)
    with opener(source, "rt", newline="") as file:
        lines = csv.reader(file)
        header = next(lines)
        if header != COLUMNS:
            sys.exit(f"{source}: the columns are {header}, not {COLUMNS}")
        rows = [row for _, row in zip(range(count), lines)]
    if len(rows) != count:
        sys.exit(f"{source}: {len(rows)} rows, {count} are needed")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(COLUMNS) or not all(JSON_NUMBER.fullmatch(value) for value in row):
            sys.exit(f"{source}: line {number} is not {len(COLUMNS)} numbers")
    return rows


def check(rows: list[list[str]]) -> None:
    v14, label = COLUMNS.index("V14"), COLUMNS.index("Class")
    flagged = [row for row in rows if float(row[v14]) < -8.0]
    figures = (sum(row[label] == "1" for row in rows), len(flagged), sum(row[label] == "1" for row in flagged))
    if figures != (FRAUDS, FLAGGED, TRUE_FLAGGED):
        sys.exit(f"frauds, flagged, flagged frauds are {figures}, not {(FRAUDS, FLAGGED, TRUE_FLAGGED)}: another source?")


def as_csv(rows: list[list[str]]) -> str:
    return "".join(",".join(row) + "\n" for row in [COLUMNS, *rows])


def as_json_lines(rows: list[list[str]]) -> str:
    def line(row: list[str]) -> str:
        return "{" + ",".join(f'"{name}":{value}' for name, value in zip(COLUMNS, row)) + "}\n"

    return "".join(line(row) for row in rows)


if __name__ == "__main__":
    main()
