"""Files that records name."""

from results.figures.artifacts import load_losses
from results.tables.load import load_records
from tests.helpers.run_records import make_record, write_records


def test_a_losses_file_that_is_packed_is_not_unpacked(tmp_path):
    """By its name pandas would: a gzip of zeros becomes a thousand times as large."""
    import gzip

    record = make_record(kind="pretrain", artifacts={"losses": "losses.csv.gz"})
    folder = write_records(tmp_path, record)
    with gzip.open(folder / "run0" / "losses.csv.gz", "wb") as file:
        file.write(b"iteration,epoch,a\n1,1,0.5\n")
    frames, (problem,) = load_losses(load_records([folder])[0])
    assert not frames and "losses.csv.gz" in problem.reason
