"""Compares a SQLite file with a PostgreSQL database by DuckDB: `compare.py PACKAGES FILE CONNECTION`.

Prints as JSON, for each table of the schema, the rows on both sides and how many of each are missing on the other.
"""

import json
import pathlib
import sys

packages, file, connection = sys.argv[1:]
sys.path.insert(0, packages)

import duckdb

extensions = str(pathlib.Path(packages, "duckdb_ext/extensions"))
db = duckdb.connect(config={"extension_directory": extensions, "autoinstall_known_extensions": "false"})
for extension in ("sqlite", "postgres"):
    db.execute(f"LOAD {extension}")


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


db.execute(f"ATTACH {quoted(file)} AS file (TYPE sqlite, READ_ONLY)")
db.execute(f"ATTACH {quoted(connection)} AS server (TYPE postgres, READ_ONLY)")
db.execute("SET TimeZone = 'UTC'")


def of_file(column, kind):
    """A column of SQLite as the type that it has on the server."""
    if kind == "BOOLEAN":
        return f"CASE WHEN {column} NOT IN (0, 1) THEN error('no boolean') ELSE {column} = 1 END"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"CAST({column} || '+00' AS TIMESTAMPTZ)"
    if kind in ("DATE", "INTEGER", "BIGINT", "VARCHAR"):
        return f"CAST({column} AS {kind})"
    assert kind == "DOUBLE", kind
    return column


def one(sql):
    return db.execute(sql).fetchone()[0]


tables = db.execute(
    "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'server' AND table_schema = 'public' "
    "AND table_name <> 'migrations' AND NOT starts_with(table_name, 'cts_') ORDER BY 1"
).fetchall()
found = {}
for (table,) in tables:
    columns = db.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        f"WHERE table_catalog = 'server' AND table_name = {quoted(table)} ORDER BY ordinal_position"
    ).fetchall()
    name = {column: '"' + column + '"' for column, _ in columns}
    here = ", ".join(f"{of_file(name[column], kind)} AS {name[column]}" for column, kind in columns)
    there = ", ".join(name[column] for column, _ in columns)
    db.execute(f"CREATE OR REPLACE TEMP TABLE here AS SELECT {here} FROM file.{table}")
    db.execute(f"CREATE OR REPLACE TEMP TABLE there AS SELECT {there} FROM server.{table}")
    found[table] = {
        "file": one("SELECT count(*) FROM here"),
        "server": one("SELECT count(*) FROM there"),
        "onlyInFile": one("SELECT count(*) FROM (FROM here EXCEPT ALL FROM there)"),
        "onlyOnServer": one("SELECT count(*) FROM (FROM there EXCEPT ALL FROM here)"),
    }
print(json.dumps(found))
