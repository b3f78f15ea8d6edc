#!/usr/bin/env python3
"""Reads Delta tables with other engines and compares what they see with what was written.

usage: readers.py FOLDER

Below FOLDER, each folder with an `expected.json` is a table: its `rows`, by column the `counts` of values that are not null and
the `sums`, and `points`, rows by one value of a column (which engines find by the files' statistics). Every table is
read, all of its columns and rows, by the Python packages deltalake, polars and duckdb (with duckdb-extension-delta, whose package
brings the extension along: nothing is downloaded at run time). Exits 1 where an engine fails or differs, 2 where there is
nothing to read.
"""

import importlib.metadata
import json
import math
import pathlib
import sys

import deltalake
import duckdb
import polars


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(value):
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def ask(expected, source, one_row):
    """What an engine that speaks SQL sees; `one_row` answers a query that gives one row."""
    asked = ["count(*)"]
    asked += [f"count({quoted(name)})" for name in expected["counts"]]
    asked += [f"sum({quoted(name)})" for name in expected["sums"]]
    answer = list(one_row("SELECT " + ", ".join(asked) + f" FROM {source}"))
    counts, sums = answer[1 : 1 + len(expected["counts"])], answer[1 + len(expected["counts"]) :]
    points = [
        one_row(f"SELECT count(*) FROM {source} WHERE {quoted(point['column'])} = {literal(point['value'])}")[0]
        for point in expected["points"]
    ]
    return answer[0], counts, sums, points


def with_deltalake(path, expected):
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(str(path)))
    whole = query.execute("SELECT * FROM t").read_all()

    def one_row(sql):
        return [column[0].as_py() for column in query.execute(sql).read_all().columns]

    return len(whole), [field.name for field in whole.schema], ask(expected, "t", one_row)


def with_polars(path, expected):
    lazy = polars.scan_delta(str(path))
    whole = lazy.collect()
    counts = [whole[name].count() for name in expected["counts"]]
    sums = [whole[name].sum() for name in expected["sums"]]
    points = [
        lazy.filter(polars.col(point["column"]) == point["value"]).collect().height for point in expected["points"]
    ]
    return whole.height, whole.columns, (whole.height, counts, sums, points)


def duckdb_connection():
    package = importlib.metadata.distribution("duckdb-extension-delta")
    files = [file for file in package.files if file.name == "delta.duckdb_extension"]
    fitting = [file for file in files if f"v{duckdb.__version__}" in file.parts]
    if not fitting:
        raise SystemExit(f"duckdb-extension-delta {package.version} has no extension for duckdb {duckdb.__version__}")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    connection.execute(f"LOAD {literal(str(package.locate_file(fitting[0])))}")
    return connection


def with_duckdb(path, expected):
    connection = duckdb_connection()
    source = f"delta_scan({literal(str(path))})"
    whole = connection.execute(f"SELECT * FROM {source}")
    columns = [column[0] for column in whole.description]
    read = len(whole.fetchall())
    return read, columns, ask(expected, source, lambda sql: connection.execute(sql).fetchone())


ENGINES = {"deltalake": with_deltalake, "polars": with_polars, "duckdb": with_duckdb}


def differences(expected, found):
    read, columns, (rows, counts, sums, points) = found
    if read != expected["rows"] or rows != expected["rows"]:
        yield f"{read} rows read and {rows} counted instead of {expected['rows']}"
    if sorted(columns) != sorted(expected["counts"]):
        yield f"columns {sorted(columns)} instead of {sorted(expected['counts'])}"
    for (name, wanted), count in zip(expected["counts"].items(), counts):
        if count != wanted:
            yield f"{count} values of {name} instead of {wanted}"
    for (name, wanted), is_sum in zip(expected["sums"].items(), sums):
        if not math.isclose(float(is_sum or 0), wanted, rel_tol=1e-9, abs_tol=1e-6):
            yield f"sum of {name} is {is_sum} instead of {wanted}"
    for point, count in zip(expected["points"], points):
        if count != point["rows"]:
            yield f"{count} rows with {point['column']} = {point['value']!r} instead of {point['rows']}"


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(sys.argv[1])
    tables = sorted(path.parent for path in root.rglob("expected.json"))
    if not tables:
        print(f"no expected.json below {root}", file=sys.stderr)
        return 2
    failed = 0
    for path in tables:
        expected = json.loads((path / "expected.json").read_text())
        for engine, read in ENGINES.items():
            try:
                problems = list(differences(expected, read(path, expected)))
            except Exception as error:  # whatever an engine throws is its answer
                problems = [f"{type(error).__name__}: {error}"]
            failed += bool(problems)
            verdict = "ok" if not problems else "DIFFERS: " + "; ".join(problems)
            print(f"{path.relative_to(root)} with {engine}: {verdict}")
    versions = ", ".join(f"{engine} {importlib.metadata.version(engine)}" for engine in ENGINES)
    print(f"{len(tables)} tables, {failed} of {len(tables) * len(ENGINES)} readings differ ({versions})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
