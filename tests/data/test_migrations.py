from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backoffice.config.settings import DatabaseSettings, Settings
from backoffice.data import migrations
from backoffice.data.database import Database
from backoffice.errors import DatabaseUnavailable, SchemaMismatch
from tests.conftest import MariaDB
from tests.crowd import processes

MIGRATE = """
import sys
from backoffice.data import migrations
from backoffice.config.settings import DatabaseSettings
from backoffice.data.database import Database
GO
print(migrations.migrate(Database(DatabaseSettings(sys.argv[1], 10))))
"""

Schema = Callable[..., Path]


@pytest.fixture
def empty(settings: Settings) -> Database:
    return Database(settings.database)


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    """Write a folder of migrations, one text each."""

    def write(*texts: str) -> Path:
        folder = tmp_path / "schema"
        folder.mkdir(exist_ok=True)
        for number, text in enumerate(texts, 1):
            (folder / f"{number:04}-test.sql").write_text(text)
        return folder

    return write


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = database.read(lambda s: s.execute(query).get_all())
    return found


def left(database: Database, folder: Path | None = None) -> list[tuple[int, int]]:
    return [(s.version, s.number) for s in migrations.pending(database, folder)]


def test_an_empty_database_gets_every_step_once(empty: Database) -> None:
    every = migrations.steps(empty.dialect)
    assert migrations.pending(empty) == every
    assert migrations.migrate(empty) == len(every)
    assert migrations.pending(empty) == []
    assert migrations.migrate(empty) == 0
    migrations.require_current(empty)


def test_a_database_without_tables_is_not_current(empty: Database) -> None:
    with pytest.raises(SchemaMismatch, match="lacks migration 1: run 'backoffice migrate'"):
        migrations.require_current(empty)


def test_of_several_at_once_each_step_is_applied_by_one(empty: Database, database_uri: str) -> None:
    said = processes(MIGRATE, [[database_uri]] * 4)
    assert sum(map(int, said)) == len(migrations.steps(empty.dialect))
    migrations.require_current(empty)


def test_an_applied_migration_must_not_change(empty: Database, schema: Schema) -> None:
    folder = schema("CREATE TABLE one (a INT);\nCREATE TABLE two (a INT);\n")
    migrations.migrate(empty, folder)
    schema("CREATE TABLE one (a INT);\nCREATE TABLE two (b INT);\n")
    for check in (migrations.pending, migrations.migrate):
        with pytest.raises(SchemaMismatch, match="migration 1, step 2, was changed"):
            check(empty, folder)


def test_comments_and_blanks_of_a_migration_may_change(empty: Database, schema: Schema) -> None:
    folder = schema("CREATE TABLE one (a INT);\n")
    migrations.migrate(empty, folder)
    schema("-- About; one.\nCREATE  TABLE one\n  (a INT);\n\n")
    assert migrations.migrate(empty, folder) == 0


def test_a_newer_database_is_refused(empty: Database, schema: Schema) -> None:
    folder = schema("CREATE TABLE one (a INT);\n", "CREATE TABLE two (a INT);\n")
    migrations.migrate(empty, folder)
    (folder / "0002-test.sql").unlink()
    for check in (migrations.pending, migrations.migrate):
        with pytest.raises(SchemaMismatch, match=r"has migration 2 .* upgrade Backoffice"):
            check(empty, folder)


def test_text_in_a_migration_arrives_as_written(empty: Database, schema: Schema) -> None:
    text = "50 % of %s; {x}? -- yes"
    folder = schema(f"CREATE TABLE one (a VARCHAR(80));\nINSERT INTO one (a) VALUES ('{text}');\n")
    migrations.migrate(empty, folder)
    assert rows(empty, "SELECT a FROM one") == [(text,)]


def test_a_broken_migration_says_so_and_is_mended(empty: Database, schema: Schema) -> None:
    good, bad = "CREATE TABLE one (a INT);\n", "CREATE TABLE two (a INT);\nCREATE TABEL three;\n"
    folder = schema(good, bad)
    with pytest.raises(DatabaseUnavailable, match=r"TABEL.*run it again"):
        migrations.migrate(empty, folder)
    # SQLite undoes all of it; MySQL keeps what it has done and goes on from there.
    done = [(1, 1), (2, 1)] if empty.mysql else []
    assert left(empty, folder) == [n for n in [(1, 1), (2, 1), (2, 2)] if n not in done]
    schema(good, bad.replace("TABEL three", "TABLE three (a INT)"))
    assert migrations.migrate(empty, folder) == 3 - len(done)
    assert not rows(empty, "SELECT * FROM one, two, three")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE two (a INT)",
        "ALTER TABLE one ADD COLUMN b INT",
        "ALTER TABLE one DROP COLUMN c",
        "ALTER TABLE one ADD KEY one_a (a)",
        "ALTER TABLE one DROP KEY one_c",
    ],
)
@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_a_step_that_took_but_was_never_marked_is_passed(
    empty: Database, schema: Schema, statement: str
) -> None:
    folder = schema("CREATE TABLE one (a INT, c INT, KEY one_c (c));\n")
    migrations.migrate(empty, folder)
    schema("CREATE TABLE one (a INT, c INT, KEY one_c (c));\n", f"{statement};\n")
    migrations.migrate(empty, folder)
    # As if it had been killed just before the step was marked as done.
    empty.transact(lambda s: s.execute("UPDATE schema_step SET finished = NULL WHERE version = 2"))
    assert left(empty, folder) == [(2, 1)]
    assert migrations.migrate(empty, folder) == 1
    assert left(empty, folder) == []


@pytest.mark.parametrize("database_uri", ["mariadb"], indirect=True)
def test_a_migration_waits_for_the_one_that_runs(
    empty: Database, mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = rows(empty, "SELECT DATABASE()")[0]
    other = mariadb.connect(str(name))
    try:
        other.cursor().execute(f"SELECT GET_LOCK('backoffice.{name}', 0)")
        monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.1)
        with pytest.raises(DatabaseUnavailable, match="another migration has been running"):
            migrations.migrate(empty)
    finally:
        other.close()
    assert migrations.migrate(empty) > 0


def test_a_server_that_is_away_is_told_from_an_empty_database(tmp_path: Path) -> None:
    away = f"mysql://root@localhost/none?unix_socket={tmp_path}/none"
    with pytest.raises(DatabaseUnavailable):
        migrations.pending(Database(DatabaseSettings(away, 1)))


# Both dialects --------------------------------------------------------------

Columns = dict[str, dict[str, bool]]  # table → column → may be NULL


def test_both_dialects_declare_the_same_tables_columns_and_keys(
    mariadb: MariaDB, tmp_path: Path
) -> None:
    mariadb.execute("CREATE DATABASE bo_same CHARACTER SET utf8mb4")
    try:
        mysql = Database(DatabaseSettings(mariadb.uri("bo_same"), 10))
        sqlite = Database(DatabaseSettings(f"sqlite:{tmp_path}/same.sqlite", 10))
        for database in (mysql, sqlite):
            migrations.migrate(database)
        assert _mysql_columns(mysql) == _sqlite_columns(sqlite)
        assert _mysql_keys(mysql) == _sqlite_keys(sqlite)
        mysql.close()
        sqlite.close()
    finally:
        mariadb.execute("DROP DATABASE bo_same")


def _mysql_columns(database: Database) -> Columns:
    found: Columns = {}
    for table, column, null in rows(
        database,
        "SELECT table_name, column_name, is_nullable = 'YES' FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name NOT LIKE '%_search'",
    ):
        found.setdefault(str(table), {})[str(column)] = bool(null)
    return found


def _sqlite_tables(database: Database) -> list[str]:
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite~_%' ESCAPE '~' AND name NOT LIKE '%~_search%' ESCAPE '~'"
    )
    return [str(name) for (name,) in rows(database, query)]


def _sqlite_columns(database: Database) -> Columns:
    return {
        table: {
            str(name): not needed and not (primary and kind == "INTEGER")
            for _, name, kind, needed, _, primary in rows(database, f"PRAGMA table_info({table})")
        }
        for table in _sqlite_tables(database)
    }


Keys = set[tuple[str, bool, tuple[str, ...]]]  # table, unique, columns


def _mysql_keys(database: Database) -> Keys:
    query = (
        "SELECT table_name, non_unique, GROUP_CONCAT(column_name ORDER BY seq_in_index)"
        " FROM information_schema.statistics WHERE table_schema = DATABASE()"
        " AND table_name NOT LIKE '%_search'"
        " GROUP BY table_name, index_name, non_unique"
    )
    return {
        (str(table), not int(str(free)), tuple(str(columns).split(",")))
        for table, free, columns in rows(database, query)
        if columns != "id"
    }


def _sqlite_keys(database: Database) -> Keys:
    return {
        (
            table,
            bool(unique),
            tuple(str(c) for _, _, c in rows(database, f"PRAGMA index_info({i})")),
        )
        for table in _sqlite_tables(database)
        for _, i, unique, _, _ in rows(database, f"PRAGMA index_list({table})")
    }
