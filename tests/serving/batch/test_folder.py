import pytest

pytest.importorskip("apache_beam", reason="batch prediction needs apache-beam")

from serving.batch.folder import BAD, ROWS, Folder

SETTINGS = {"input": ["*.jpg"], "top": 5}


def shard(folder, kind, number, total, end):
    path = folder / f"{kind}-{number:05d}-of-{total:05d}{end}"
    path.write_text("{}\n")
    return path


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path / "out"))


def test_a_finished_job_is_never_touched(folder, tmp_path):
    folder.begin(SETTINGS)
    shard(tmp_path / "out", ROWS, 0, 1, ".parquet"), shard(tmp_path / "out", BAD, 0, 1, ".jsonl")
    assert folder.facts() is None
    folder.finish({"rows": 3})
    assert folder.facts() == {"rows": 3}
    before = sorted((tmp_path / "out").iterdir())
    with pytest.raises(ValueError, match="finished job"):
        folder.begin(SETTINGS)
    assert sorted((tmp_path / "out").iterdir()) == before


def test_the_same_job_begins_anew_after_a_kill(folder, tmp_path):
    folder.begin(SETTINGS)
    out = tmp_path / "out"
    begun = sorted(out.iterdir())
    shard(out, ROWS, 1, 3, ".parquet")
    temporary = out / f"beam-temp-rows-{'0' * 32}"
    temporary.mkdir()
    (temporary / "half.rows.parquet").write_text("half")
    (out / "beam-temp-bad-11111111111111111111111111111111").mkdir()
    folder.begin(SETTINGS)
    assert sorted(out.iterdir()) == begun


def test_other_settings_and_other_files_are_refused(folder, tmp_path):
    folder.begin(SETTINGS)
    with pytest.raises(ValueError, match="unfinished job with other settings"):
        folder.begin(SETTINGS | {"top": 1})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    with pytest.raises(ValueError, match="isn't empty"):
        Folder(str(tmp_path / "mine")).begin(SETTINGS)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_missing_shard_or_a_strange_one_is_not_called_done(folder, tmp_path):
    folder.begin(SETTINGS)
    shard(tmp_path / "out", BAD, 0, 1, ".jsonl")
    with pytest.raises(RuntimeError, match="none"):
        folder.finish({})
    shard(tmp_path / "out", ROWS, 0, 2, ".parquet")
    with pytest.raises(RuntimeError, match="not those of one run"):
        folder.finish({})
    shard(tmp_path / "out", ROWS, 1, 2, ".parquet")
    strange = shard(tmp_path / "out", ROWS, 0, 3, ".parquet")
    with pytest.raises(RuntimeError, match="not those of one run"):
        folder.finish({})
    strange.unlink()
    folder.finish({})
    assert folder.files(ROWS) == [str(tmp_path / "out" / f"rows-0000{i}-of-00002.parquet") for i in (0, 1)]


def test_two_runs_at_once_are_refused(folder):
    with folder.locked(), pytest.raises(ValueError, match="another run"), folder.locked():
        pass
    with folder.locked():
        pass
