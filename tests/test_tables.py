"""Tables on disk: dialects of CSV, Parquet, and from one to the other."""

import gzip

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from command_line import read

from jaxem import tables


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_cross_formats(tmp_path, suffix):
    source = tmp_path / "a.csv"
    source.write_text("k,x,t\n1,,b\n2,2.5,\n")
    target = tmp_path / f"b{suffix}"
    tables.read_table(source).write(target, {"x": np.array([0.1, 9.0])}, suffix == ".parquet")
    back = tables.read_table(target)
    assert back.names == ["k", "x", "t"]
    np.testing.assert_array_equal(back.numbers("x"), [0.1, 2.5])
    np.testing.assert_array_equal(back.numbers("k"), [1, 2])
    assert back.numbers("t") is None


def test_arrow_table_to_csv(tmp_path):
    path = tmp_path / "a.csv"
    tables.ArrowTable(pyarrow.table({"x": [1.5, None], "t": ["a,b", "c"]})).write(path, {"x": np.array([7.0, 0.1])}, False)
    assert read(path) == [["x", "t"], ["1.5", "a,b"], ["0.1", "c"]]


@pytest.mark.parametrize("text", ["a;b\n1;2\n", "a\tb\n1\t2\n", "\ufeffa,b\r\n1,2\r\n", "a,b\n1,2\n\n"])
def test_csv_dialects(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8", newline="")
    table = tables.read_table(path)
    assert (table.names, table.numbers("b").tolist()) == (["a", "b"], [2.0])


def test_empty_line_is_a_missing_cell_where_there_is_one_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n\n3\n")
    np.testing.assert_array_equal(tables.read_table(path).numbers("a"), [1, np.nan, 3])


# what is said


def test_what_spreadsheets_leave(tmp_path):
    """A comma at the end of each line opens no column; one without a name that holds something stays."""
    path = tmp_path / "data.csv"
    path.write_text("a,b,\n1,2,\n3,4,\n")
    assert tables.read_table(path).names == ["a", "b"]
    path.write_text(",a\n0,1\n1,5\n")
    assert tables.read_table(path).names == ["", "a"]
    path.write_text("2019,0.5,a\n0,1,2\n")  # years and quantiles
    assert tables.read_table(path).names == ["2019", "0.5", "a"]


def test_gzip(tmp_path):
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfa,b\r\n1,x\r\n"))
    table = tables.read_table(path)
    assert (table.names, table.rows) == (["a", "b"], [["1", "x"]])
