"""What tests of the command line share."""

import csv


def read(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def assert_refused(code, capsys, expected):
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("jaxem: ")
    assert err.count("\n") == 1
    assert expected in err
